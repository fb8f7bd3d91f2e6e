import type { Code } from '../base/errors.ts'
import type { RequestHeader } from './codec.ts'
import { Command } from './codec.ts'

/** What a connection has agreed on, as far as a refusal tells it. */
export interface Bounds {
  /** Bytes of the longest read or write. */
  readonly payloadMax: number
  /** Bytes of the export. */
  readonly size: number
  /** The flags that the command may have; undefined for an unknown command. */
  readonly flags: number | undefined
}

const nameOf: Readonly<Record<number, string>> = {
  [Command.read]: 'read',
  [Command.write]: 'write',
  [Command.disconnect]: 'disconnect',
  [Command.flush]: 'flush',
  [Command.trim]: 'trim',
  [Command.cache]: 'cache',
  [Command.writeZeroes]: 'write zeroes',
  [Command.blockStatus]: 'block status',
}

/** A sentence for people: why the server refuses the request of this header with `code`. */
export function whyRefused(code: Code, header: RequestHeader, bounds: Bounds): string {
  const { type, flags, length } = header
  const name = nameOf[type]
  if (name === undefined) return `there is no command ${type}`
  const what = `${name} of ${length} bytes`
  if (code === 'READ_ONLY') return `${name}: the export may only be read`
  if (code === 'TOO_LARGE') return `${what}: at most ${bounds.payloadMax} are possible at once`
  if (code === 'RANGE')
    return `${what} at ${header.exactOffset}: the export ends at byte ${bounds.size}`
  const unknown = flags & ~(bounds.flags ?? 0)
  if (unknown !== 0) return `${name}: flags 0x${unknown.toString(16)} are unknown, or not agreed on`
  if (type === Command.blockStatus) return `${name}: no context was agreed on to ask for`
  if (type === Command.write) return `${name} of 0 bytes: there is nothing to write`
  return `${name}: it has neither an offset nor a length`
}
