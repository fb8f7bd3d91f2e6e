import { inspect } from 'node:util'

/**
 * Errors are values: a code from a closed set, a sentence, the device they came from and a cause.
 * Each protocol maps the codes to its own in one table (`wire/status.ts`, `nbd/errno.ts`).
 * Our own mistakes are assertions instead: they stop the process.
 */
export const codes = [
  /** Not aligned, an unknown flag, a length of zero: the request makes no sense to this device. */
  'INVALID',
  /** Beyond the end of the device. */
  'RANGE',
  /** The device, the export or the client may only read. */
  'READ_ONLY',
  /** Larger than what was agreed. */
  'TOO_LARGE',
  /** The device cannot do this, or not fast enough for FAST_ZERO. */
  'UNSUPPORTED',
  /** The medium is full. */
  'NO_SPACE',
  /** The medium failed, or no leg can vouch for the range. */
  'IO',
  /** The device does not answer: a remote is away for longer than its hold, or was never there. */
  'UNAVAILABLE',
  /** The target restarted and may have forgotten what it acknowledged but had not flushed. */
  'STALE',
  /** No answer before the deadline. */
  'TIMEOUT',
  /** A newer head has taken over the device. */
  'FENCED',
  /** The peer broke the protocol. */
  'PROTOCOL',
  /** A limit of memory, connections or requests is reached. */
  'BUSY',
  /** The target is stopping. */
  'SHUTDOWN',
  /** The device is used by another process or another parent. */
  'CLAIMED',
  /** A configuration or a command that cannot be carried out as written. */
  'CONFIG',
] as const

export type Code = (typeof codes)[number]

/** The one kind of error that devices, requests and commands fail with. */
export class StorageError extends Error {
  override readonly name = 'StorageError'
  readonly code: Code
  /** Path in the tree of the device that failed, '' when no device is to blame. */
  readonly device: string

  constructor(code: Code, message: string, device = '', cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.device = device
  }
}

/** Stops the process for a mistake of ours; never for what a peer, a file or a disk does. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message}`)
}

const fromErrno: Readonly<Record<string, Code>> = {
  // With a prototype, a cause whose code is `toString` would find the method.
  __proto__: null as never,
  ENOSPC: 'NO_SPACE',
  EDQUOT: 'NO_SPACE',
  EFBIG: 'NO_SPACE',
  EROFS: 'READ_ONLY',
  EPERM: 'READ_ONLY',
  EACCES: 'READ_ONLY',
  EINVAL: 'INVALID',
  EOPNOTSUPP: 'UNSUPPORTED',
  ENOTSUP: 'UNSUPPORTED',
  EAGAIN: 'BUSY',
  ENOMEM: 'BUSY',
  EMFILE: 'BUSY',
  ENFILE: 'BUSY',
  ETIMEDOUT: 'TIMEOUT',
}

/**
 * Translates an error of the operating system (its `code` is an errno's name) into ours. `doing`
 * begins the message. Returns a StorageError as it is.
 */
export function systemError(cause: unknown, doing: string, device = ''): StorageError {
  if (cause instanceof StorageError) return cause
  const errno = (cause as { code?: unknown } | null | undefined)?.code
  const code = (typeof errno === 'string' ? fromErrno[errno] : undefined) ?? 'IO'
  const said = cause instanceof Error ? cause.message : inspect(cause)
  const reason = errno === 'ENOTFOUND' ? `no host of this name is known (${said})` : said
  return new StorageError(code, `${doing}: ${reason}`, device, cause)
}
