import type { Code } from '../base/errors.ts'
import { failures } from '../device/life.ts'
import { Flag, Operation, type Request } from '../device/request.ts'
import { Errno } from './codec.ts'

/**
 * Errors, to and from what NBD says. The table is the protocol's own advice, and where that is
 * silent what nbdkit answers, because clients are tested against it.
 */
const errnoOfCode: Readonly<Record<Code, number>> = {
  INVALID: Errno.EINVAL,
  RANGE: Errno.EINVAL,
  READ_ONLY: Errno.EPERM,
  TOO_LARGE: Errno.EINVAL,
  UNSUPPORTED: Errno.EINVAL,
  NO_SPACE: Errno.ENOSPC,
  IO: Errno.EIO,
  UNAVAILABLE: Errno.EIO,
  STALE: Errno.EIO,
  TIMEOUT: Errno.EIO,
  FENCED: Errno.EIO,
  PROTOCOL: Errno.EIO,
  BUSY: Errno.ENOMEM,
  SHUTDOWN: Errno.ESHUTDOWN,
  CLAIMED: Errno.EPERM,
  CONFIG: Errno.EINVAL,
}

const codeOfErrno: Readonly<Record<number, Code>> = {
  [Errno.EPERM]: 'READ_ONLY',
  [Errno.EIO]: 'IO',
  [Errno.ENOMEM]: 'BUSY',
  [Errno.EINVAL]: 'INVALID',
  [Errno.ENOSPC]: 'NO_SPACE',
  [Errno.EOVERFLOW]: 'TOO_LARGE',
  [Errno.ENOTSUP]: 'UNSUPPORTED',
  [Errno.ESHUTDOWN]: 'SHUTDOWN',
}

/** What a server answers to an operation that failed with `code`. */
export function errnoOf(code: Code, operation: Operation, flags: number): number {
  const writes = operation === Operation.write || operation === Operation.writeZeroes
  // Out of range means a full disk for a write, and a mistake for a read or a trim.
  if (code === 'RANGE' && writes) return Errno.ENOSPC
  // ENOTSUP is reserved for zeroing that would not be fast.
  if (code === 'UNSUPPORTED' && (flags & Flag.fastZero) !== 0) return Errno.ENOTSUP
  return errnoOfCode[code]
}

/**
 * The code of an error that a server answered. A number that the protocol does not list counts as
 * EINVAL, which servers also send for their own errors that they cannot express. So for a flush, or
 * a forced change, which many servers end with a flush, EINVAL does not mean that nothing was done:
 * what is no failure counts as IO there. Only two answers say that nothing was done: zeroes would
 * not be fast, and the server stops, whose connection we leave.
 */
export function codeOf(errno: number, { operation, flags }: Request): Code {
  const code = codeOfErrno[errno] ?? 'INVALID'
  if (operation !== Operation.flush && (flags & Flag.fua) === 0) return code
  const refused = code === 'UNSUPPORTED' && (flags & Flag.fastZero) !== 0
  return refused || code === 'SHUTDOWN' || failures.has(code) ? code : 'IO'
}
