import { assert, type Code } from '../base/errors.ts'
import type { Facts } from './facts.ts'
import { Flag, Operation, operationNames, type Request } from './request.ts'

/** Bytes a request without payload may cover: what a 32-bit length on a wire can say. */
export const rangeBytesMax = 0xffff_ffff

const flagsOf: readonly number[] = [
  0,
  Flag.fua,
  0,
  Flag.fua,
  Flag.fua | Flag.fastZero | Flag.noHole,
  0,
]

/** The code with which a device of these facts refuses the request; null if it may pass. */
export function validate(request: Request, facts: Facts): Code | null {
  const { operation, offset, length, flags } = request
  if ((flags & ~flagsOf[operation]!) !== 0) return 'INVALID'
  if (operation === Operation.flush) return facts.flush === 'none' ? 'UNSUPPORTED' : null
  if (offset > Number.MAX_SAFE_INTEGER) return 'RANGE'
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length)) return 'INVALID'
  if (offset < 0 || length <= 0 || length > rangeBytesMax) return 'INVALID'
  if (offset + length > facts.size) return 'RANGE'
  if (facts.blockSize > 1 && (offset % facts.blockSize !== 0 || length % facts.blockSize !== 0))
    return 'INVALID'
  if (operation === Operation.read || operation === Operation.status) return null
  if (facts.readOnly) return 'READ_ONLY'
  if ((flags & Flag.fua) !== 0 && facts.fua === 'none') return 'UNSUPPORTED'
  if (operation === Operation.write)
    assert(request.payloadBytes === length, 'a write carries its length in bytes')
  else if (operation === Operation.trim && facts.trim !== 'native') return 'UNSUPPORTED'
  else if (operation === Operation.writeZeroes) {
    if (facts.writeZeroes === 'none') return 'UNSUPPORTED'
    if ((flags & Flag.fastZero) !== 0 && !facts.fastZero) return 'UNSUPPORTED'
  }
  return null
}

/** Says in a sentence why the device refuses the request with `code`, see `validate`. */
export function whyRefused(code: Code, request: Request, facts: Facts): string {
  const { operation, offset, length, flags } = request
  const name = operationNames[operation]
  const what = `${name} of ${length} bytes at ${offset}`
  if (code === 'RANGE') return `${what}: the device ends at byte ${facts.size}`
  if (code === 'READ_ONLY') return `${what}: the device may only be read`
  if (code === 'UNSUPPORTED')
    return `${name}: the device cannot do that${flags === 0 ? '' : ' with these flags'}`
  if ((flags & ~flagsOf[operation]!) !== 0) return `${name}: flags ${flags} make no sense`
  if (length <= 0) return `${what}: there is nothing to do`
  if (length > rangeBytesMax) return `${what}: at most ${rangeBytesMax} are possible at once`
  return `${what}: both must be multiples of ${facts.blockSize}`
}
