import { crc32 } from 'node:zlib'
import { KiB } from '../../../src/base/size.ts'
import type { Dice } from '../../simulation/dice.ts'
import { fieldsOf, noiseOf, type Part } from '../mutate.ts'
import { names } from '../served.ts'

/**
 * What a client of DST/1 says. Written from `docs/protocol.md` and not with the project's codec,
 * which would hide its own mistakes.
 */

export const magic = Buffer.from('445354310d0a1a00', 'hex')

/** The fields that both first messages begin with: where each is, and its bytes. */
export const firstFields = [
  [8, 2],
  [10, 2],
  [12, 4],
  [16, 1],
  [18, 2],
  [20, 4],
] as const

const helloFields = fieldsOf('little', ...firstFields, [40, 4], [44, 4], [48, 8], [56, 2])
const requestFields = fieldsOf(
  'little',
  [0, 1],
  [1, 1],
  [2, 2],
  [4, 4],
  [8, 8],
  [16, 4],
  [20, 4],
  [24, 4],
)

/** The checksum of all bytes but the four at `place`. */
export function checksumAround(bytes: Buffer, place: number): number {
  return crc32(bytes.subarray(place + 4), crc32(bytes.subarray(0, place)))
}

/** Writes the checksum of a first message at its place, if there is one. */
export function seal(bytes: Buffer, place: number): void {
  if (bytes.length >= place + 4) bytes.writeUInt32LE(checksumAround(bytes, place), place)
}

function hello(dice: Dice, features: number): Part {
  const name = dice.pick([names.open, names.open, names.open, names.readOnly, 'nowhere'])
  const bytes = Buffer.alloc(72 + name.length)
  magic.copy(bytes)
  bytes.writeUInt16LE(1, 8)
  bytes.writeUInt16LE(dice.pick([1, 1, 3]), 10)
  bytes.writeUInt32LE(bytes.length - 16, 12)
  bytes[16] = dice.pick([1, 1, 1, 1, 1, 1, 2])
  bytes.writeUInt16LE(dice.pick([0, 0, 1]), 18)
  bytes.writeUInt32LE(features, 20)
  noiseOf(dice, 16).copy(bytes, 24)
  bytes.writeUInt32LE(dice.below(3), 40)
  bytes.writeUInt32LE(dice.pick([1, 32, 128, 0, 5000]), 44)
  bytes.writeBigUInt64LE(BigInt(dice.pick([0, 0, 0, 5, dice.below(1e6)])), 48)
  bytes.writeUInt16LE(name.length, 56)
  bytes.write(name, 72)
  const repair = (changed: Buffer): void => seal(changed, 68)
  repair(bytes)
  return { bytes, fields: helloFields, repair }
}

const commands = [1, 1, 1, 1, 2, 2, 2, 2, 3, 4, 5, 5, 6, 6, 16, 17, 18, 32, 33]

function request(dice: Dice, size: number, checksums: boolean): readonly Part[] {
  const bytes = Buffer.alloc(32)
  const command = dice.chance(0.05) ? dice.below(70) : dice.pick(commands)
  const most = dice.pick([16, 512, 4 * KiB, 12 * KiB, 64 * KiB, size])
  const length = 1 + dice.below(Math.min(most, size))
  const payload = command === 2 ? noiseOf(dice, length) : Buffer.alloc(0)
  bytes[0] = command
  bytes[1] = dice.chance(0.2) ? dice.below(9) : 0
  // Of few slots and numbers some are said again, with the same request or another.
  bytes.writeUInt16LE(dice.chance(0.95) ? dice.below(6) : dice.below(1200), 2)
  bytes.writeUInt32LE(dice.below(8), 4)
  const claim = command === 17
  if (command <= 6 && command !== 3) {
    const room = dice.chance(0.95) ? size - length + 1 : size
    bytes.writeBigUInt64LE(BigInt(dice.below(room)), 8)
    bytes.writeUInt32LE(length, 16)
  } else if (claim) bytes.writeBigUInt64LE(BigInt(dice.pick([0, 5, 7, dice.below(1e7)])), 8)
  bytes.writeUInt32LE(payload.length, 20)
  if (!checksums) return [{ bytes, fields: requestFields }, ...partOf(payload)]
  bytes.writeUInt32LE(dice.chance(0.97) ? crc32(payload) : 7, 24)
  const repair = (changed: Buffer): void => {
    if (changed.length >= 32) changed.writeUInt32LE(crc32(changed.subarray(0, 28)), 28)
  }
  repair(bytes)
  return [{ bytes, fields: requestFields, repair }, ...partOf(payload)]
}

function partOf(payload: Buffer): readonly Part[] {
  return payload.length === 0 ? [] : [{ bytes: payload }]
}

/** A whole conversation with a device of `size` bytes. */
export function conversation(dice: Dice, size: number): readonly Part[] {
  const features = dice.pick([0, 1, 7, 6, dice.below(16)])
  const parts = [hello(dice, features)]
  const checksums = (features & 1) !== 0
  for (let left = dice.below(dice.pick([4, 24])); left > 0; left--)
    parts.push(...request(dice, size, checksums))
  return parts
}
