import { asText, isObject } from '../base/guards.ts'
import { describeSize } from '../base/size.ts'
import { sizeOf } from './options.ts'
import { printLine, printWarning } from './print.ts'

/** The options of a command that enlarges, from the size on its command line. */
export function sizeAsked(text: string | undefined): { readonly size?: number } {
  return text === undefined ? {} : { size: sizeOf('the size', text) }
}

/** Prints the size of the volume, what keeps it from being larger, and what to configure. */
export function showGrowth(volume: string, outcome: unknown): void {
  if (!isObject(outcome)) return
  const { size } = outcome
  const [reason, warning] = [asText(outcome['reason']), asText(outcome['warning'])]
  if (typeof size === 'number') {
    const why = reason === '' ? '' : `; for more: ${reason}`
    printLine(`${volume} has ${describeSize(size)} (${size} bytes)${why}`)
  }
  for (const line of warning === '' ? [] : warning.split('\n')) printWarning(line)
}
