import { asText, isObject } from '../base/guards.ts'
import { describeSize, parseSize, sizeMeant } from '../base/size.ts'
import { UsageError } from './exit.ts'
import { printLine, printWarning } from './print.ts'

/** The options of a command that enlarges, from the size on its command line. */
export function sizeAsked(text: string | undefined): { readonly size?: number } {
  if (text === undefined) return {}
  const size = parseSize(text)
  if (size === null || size === 0)
    throw new UsageError(`"${text}" is no size such as 64G${sizeMeant(text)}`)
  return { size }
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
