import type { Code } from '../base/errors.ts'
import { extentRunsMax } from '../device/extents.ts'
import { Flag, Operation } from '../device/request.ts'
import { Command, CommandFlag } from './codec.ts'

/**
 * Bytes reserved for a reply beside its payload: headers, or an error with its message. What a
 * client leaves unread counts against the same limits as what it has in flight.
 */
export const replyOverheadBytes = 512

/** The most runs in one reply: as many as fit what is staged in one piece. */
export const replyRunsMax = Math.min(extentRunsMax, 2000)

/** Bytes reserved for a request: its payload, and what is sent beside it. */
export function roomOf(operation: Operation, length: number): number {
  if (operation <= Operation.write) return length + replyOverheadBytes
  if (operation === Operation.status) return 8 * replyRunsMax + replyOverheadBytes
  return replyOverheadBytes
}

/** The device's flags for a command and its flags; 0 for commands that change nothing. */
export function deviceFlags(type: number, flags: number): number {
  if (type !== Command.write && type !== Command.trim && type !== Command.writeZeroes) return 0
  let found = (flags & CommandFlag.fua) !== 0 ? Flag.fua : 0
  if ((flags & CommandFlag.fastZero) !== 0) found |= Flag.fastZero
  if ((flags & CommandFlag.noHole) !== 0) found |= Flag.noHole
  return found
}

/** RANGE for an offset that no number holds exactly, which is beyond the end of any device. */
export function beyondAll(offset: number): Code | null {
  return offset > Number.MAX_SAFE_INTEGER ? 'RANGE' : null
}
