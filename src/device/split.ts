import { empty } from '../base/empty.ts'
import { StorageError } from '../base/errors.ts'
import type { Extents } from './extents.ts'
import { Flag, isChange, Operation, Request, type Completer, type PartsTarget } from './request.ts'

/**
 * Splits one request into parts for several places and joins their answers: between `beginSplit`
 * and `endSplit` take parts in order of their offset and submit each. The whole completes after
 * the last part, with the first part's error that has one, and with all bytes or runs in order.
 *
 * A change fails with STALE if its first parts may have been lost before the last one was carried
 * out: it was not acknowledged by then, so the loss is not counted anywhere else.
 */
export function beginSplit(whole: Request, target: PartsTarget): void {
  whole.partsPending = 1
  whole.partsTarget = target
  whole.partsBootId = ''
}

/**
 * Makes the part of `whole` that starts `from` bytes into it. A write's part shares the bytes.
 * `offset` is the place of the part on the device that the caller submits it to.
 */
export function splitOff(whole: Request, from: number, length: number, offset: number): Request {
  const part = Request.take(whole.operation, offset, length, whole.flags, joiner)
  part.context = whole
  if (whole.operation === Operation.write) part.shareRange(whole, from, length)
  whole.parts.push(part)
  whole.partsPending++
  return part
}

/** Ends the splitting: the whole completes when the last part has, perhaps now. */
export function endSplit(whole: Request): void {
  if (--whole.partsPending === 0) join(whole)
}

const joiner: Completer = {
  completed(part) {
    const whole = part.context as Request
    if (isLate(whole, part))
      part.error ??= new StorageError('STALE', 'the device lost the first parts of the request')
    endSplit(whole)
  },
}

/** True if the device may have lost the change of the first part before this one was made. */
function isLate(whole: Request, { operation, flags }: Request): boolean {
  // A forced change is on stable storage.
  if (!isChange(operation) || (flags & Flag.fua) !== 0) return false
  const { bootId } = whole.partsTarget!.facts!
  if (whole.partsBootId === '') whole.partsBootId = bootId
  return whole.partsBootId !== bootId
}

function join(whole: Request): void {
  let failed: Request | null = null
  let contiguous = true
  for (const part of whole.parts) {
    failed ??= part.error === null ? null : part
    if (whole.operation === Operation.read) whole.adopt(part)
    else if (whole.operation === Operation.status && contiguous)
      contiguous = appendRuns(whole.extents, part)
  }
  const error = failed?.error ?? null
  for (const part of whole.parts) part.release()
  empty(whole.parts)
  whole.partsTarget = null
  if (error === null) whole.complete()
  else whole.fail(error)
}

/** Returns false if the runs do not reach the end of the part: the next ones would leave a gap. */
function appendRuns(extents: Extents, part: Request): boolean {
  const { lengths, flags } = part.extents
  for (const [at, length] of lengths.entries()) if (!extents.add(length, flags[at]!)) return false
  return part.extents.covered >= part.length
}
