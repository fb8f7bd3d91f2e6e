import { MiB } from '../../src/base/size.ts'
import { Dice } from '../simulation/dice.ts'

/** A number in a message, which decides how what follows is read. */
export interface Field {
  readonly at: number
  readonly width: 1 | 2 | 4 | 8
  readonly order: 'big' | 'little'
}

/** One message of a conversation, as it should be. */
export interface Part {
  readonly bytes: Buffer
  readonly fields?: readonly Field[]
  /** Makes the checksums right again, so that what is behind them is looked at. */
  readonly repair?: (bytes: Buffer) => void
}

/** Bytes of chance, from which payloads are cut. */
const noise = new Dice(0x5eed).bytes(4 * MiB)

/** So many bytes of chance; they must not be changed. */
export function noiseOf(dice: Dice, length: number): Buffer {
  const from = dice.below(noise.length - length + 1)
  return noise.subarray(from, from + length)
}

const zeroes = Buffer.alloc(64 * 1024)

/** Whether there is nothing but zeroes. */
export function isZeroes(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += zeroes.length) {
    const piece = bytes.subarray(at, at + zeroes.length)
    if (!piece.equals(zeroes.subarray(0, piece.length))) return false
  }
  return true
}

/** Fields of one width and order, one behind the other. */
export function fieldsOf(
  order: Field['order'],
  ...places: readonly (readonly [at: number, width: Field['width']])[]
): readonly Field[] {
  return places.map(([at, width]) => ({ at, width, order }))
}

/** Where messages of clients and servers have most of what matters. */
const headBytes = 128

const interesting = [0, 1, 2, 7, 8, 15, 16, 27, 28, 31, 32, 255, 256, 511, 512, 4095, 4096, 4097]
const larger = [8192, 12_288, 65_535, 65_536, 131_072, 2 ** 20, 2 ** 24, 2 ** 25, 2 ** 26]
const edges = [...interesting, ...larger, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1].map(BigInt)

/** Writes a number at which something begins or ends. */
function writeEdge(bytes: Buffer, { at, width, order }: Field, dice: Dice): void {
  if (at + width > bytes.length) return
  const all = (1n << BigInt(8 * width)) - 1n
  const before = readField(bytes, { at, width, order })
  const choices = [0n, all, all - 1n, all >> 1n, (all >> 1n) + 1n, before + 1n, before - 1n]
  const close = [before * 2n, before >> 1n, 1n << 53n, (1n << 53n) - 1n, (1n << 63n) - 1n]
  const value = dice.pick([...choices, ...close, dice.pick(edges)]) & all
  for (let index = 0; index < width; index++) {
    const place = order === 'little' ? index : width - 1 - index
    bytes[at + place] = Number((value >> BigInt(8 * index)) & 0xffn)
  }
}

function readField(bytes: Buffer, { at, width, order }: Field): bigint {
  let value = 0n
  for (let index = 0; index < width; index++) {
    const place = order === 'little' ? width - 1 - index : index
    value = (value << 8n) | BigInt(bytes[at + place]!)
  }
  return value
}

/** A copy of the message with something in it changed. */
function changed(part: Part, dice: Dice): Part {
  let bytes = Buffer.from(part.bytes)
  const { fields = [], repair } = part
  const span = dice.chance(0.8) ? Math.min(headBytes, bytes.length) : bytes.length
  const at = dice.below(Math.max(1, span))
  const what = dice.below(fields.length > 0 ? 9 : 6)
  if (what === 0) bytes[at]! ^= 1 << dice.below(8)
  else if (what === 1) bytes[at] = dice.below(256)
  else if (what === 2)
    bytes.fill(dice.pick([0, 0xff]), at, Math.min(bytes.length, at + 1 + dice.below(16)))
  else if (what === 3) bytes = bytes.subarray(0, at)
  else if (what === 4) {
    const more = noiseOf(dice, 1 + dice.below(64))
    bytes = Buffer.concat([bytes.subarray(0, at), more, bytes.subarray(at)])
  } else if (what === 5) {
    const from = dice.below(Math.max(1, bytes.length))
    bytes.copyWithin(at, from, from + 1 + dice.below(32))
  } else writeEdge(bytes, dice.pick(fields), dice)
  if (repair === undefined || dice.chance(0.15)) return { ...part, bytes }
  repair(bytes)
  return { ...part, bytes }
}

/** Does one thing to the conversation that no decent peer does. */
function mutateOnce(parts: Part[], dice: Dice, other: () => readonly Part[]): void {
  const at = dice.below(parts.length)
  const part = parts[at]!
  const what = dice.below(16)
  if (what < 9) parts[at] = changed(part, dice)
  else if (what === 9) parts.splice(at, 1)
  else if (what === 10) parts.splice(dice.below(parts.length + 1), 0, part)
  else if (what === 11) {
    const to = dice.below(parts.length)
    parts[at] = parts[to]!
    parts[to] = part
  } else if (what === 12) parts.splice(at)
  else if (what === 13) parts.splice(at, 0, { bytes: noiseOf(dice, 1 + dice.below(300)) })
  else {
    const foreign = other()
    const from = dice.below(foreign.length)
    const count = what === 14 ? 1 : foreign.length
    parts.splice(at, dice.below(2), ...foreign.slice(from, from + count))
  }
}

/**
 * A conversation with a few things changed, in a quarter of the cases none: bits and bytes, numbers
 * at their edges, messages cut off, left out, said twice, exchanged, and pieces of another one.
 */
export function mutated(
  parts: readonly Part[],
  dice: Dice,
  other: () => readonly Part[],
): readonly Part[] {
  const result = [...parts]
  if (dice.chance(0.25)) return result
  for (let left = 1 + dice.below(4); left > 0 && result.length > 0; left--)
    mutateOnce(result, dice, other)
  return result
}

/** One message with something changed, or as it was. */
export function mutatedPart(part: Part, dice: Dice, probability: number): Buffer {
  return dice.chance(probability) ? changed(part, dice).bytes : part.bytes
}

/** A copy of the bytes with a few places changed. */
export function mutatedBytes(part: Part, dice: Dice): Buffer {
  let result = part
  for (let left = 1 + dice.below(5); left > 0; left--) result = changed(result, dice)
  return result.bytes
}
