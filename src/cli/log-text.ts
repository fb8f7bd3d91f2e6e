import { asText, isObject } from '../base/guards.ts'
import { printable } from './print.ts'

const levels: Readonly<Record<number, string>> = {
  20: 'debug',
  30: 'info',
  40: 'warning',
  50: 'error',
  60: 'fatal',
}

/** A record of the log as a line for people: `12:03:11  warning  home is degraded: …`. */
export function textOf(record: object): string {
  const { time, level, msg, err } = record as Readonly<Record<string, unknown>>
  const moment = time instanceof Date ? time : new Date(String(time))
  const clock = Number.isNaN(moment.getTime()) ? '' : moment.toTimeString().slice(0, 8)
  const text = asText(msg)
  const cause = isObject(err) ? asText(err['message']) : ''
  const why = cause === '' || text.includes(cause) ? '' : `: ${cause}`
  const word = (levels[Number(level)] ?? '').padEnd(7)
  return `${printable(`${clock}  ${word}  ${text}${why}`)}\n`
}
