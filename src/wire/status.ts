import { StorageError, type Code } from '../base/errors.ts'

/** What a reply says, on the wire. Numbers are never reused. */
export const statusOk = 0
/** The payload arrived damaged; nothing was done. The sender tries again. */
export const statusChecksum = 100

/** The one table of codes and their numbers, for both directions. */
const numbers: Readonly<Record<Code, number>> = {
  INVALID: 1,
  RANGE: 2,
  READ_ONLY: 3,
  TOO_LARGE: 4,
  UNSUPPORTED: 5,
  NO_SPACE: 6,
  IO: 7,
  UNAVAILABLE: 8,
  STALE: 9,
  TIMEOUT: 10,
  FENCED: 11,
  PROTOCOL: 12,
  BUSY: 13,
  SHUTDOWN: 14,
  CLAIMED: 15,
  CONFIG: 16,
}

const codesByNumber = new Map(
  Object.entries(numbers).map(([code, number]) => [number, code as Code]),
)

/** The status of a code. */
export function statusOf(code: Code): number {
  return numbers[code]
}

/** What a status other than `statusOk` means here. A number we do not know is an I/O error. */
export function codeOf(status: number): Code {
  return codesByNumber.get(status) ?? 'IO'
}

/** The error of a status other than `statusOk`. */
export function errorOf(status: number, text: string): StorageError {
  return new StorageError(codeOf(status), text === '' ? `refused with status ${status}` : text)
}

/** What a refusal says to people where the code alone would puzzle them. */
export function sentenceOf(code: Code): string {
  if (code !== 'FENCED') return ''
  return 'the device is claimed: it is a leg of a mirror, which has another head or none now'
}
