import { KiB } from '../../../src/base/size.ts'
import type { Dice } from '../../simulation/dice.ts'
import { fieldsOf, noiseOf, type Part } from '../mutate.ts'
import { names } from '../served.ts'

/**
 * What a client of NBD says. Written from the protocol's text and not with the project's codec,
 * which would hide its own mistakes.
 */

const optionMagic = Buffer.from('IHAVEOPT')
const requestMagic = 0x25609513

export const optionFields = fieldsOf('big', [8, 4], [12, 4], [16, 4], [20, 2])
const requestFields = fieldsOf('big', [4, 2], [6, 2], [8, 8], [16, 8], [24, 4], [24, 4])

function option(number: number, data: Buffer): Part {
  const head = Buffer.alloc(16)
  optionMagic.copy(head)
  head.writeUInt32BE(number, 8)
  head.writeUInt32BE(data.length, 12)
  return { bytes: Buffer.concat([head, data]), fields: optionFields }
}

function counted(text: string): Buffer {
  const bytes = Buffer.from(text)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bytes.length)
  return Buffer.concat([length, bytes])
}

function info(name: string, wanted: readonly number[]): Buffer {
  const numbers = Buffer.alloc(2 + 2 * wanted.length)
  for (const [at, number] of [wanted.length, ...wanted].entries())
    numbers.writeUInt16BE(number, 2 * at)
  return Buffer.concat([counted(name), numbers])
}

function context(name: string, queries: readonly string[]): Buffer {
  const count = Buffer.alloc(4)
  count.writeUInt32BE(queries.length)
  return Buffer.concat([counted(name), count, ...queries.map(counted)])
}

function request(dice: Dice, size: number): readonly Part[] {
  const head = Buffer.alloc(28)
  const type = dice.pick([0, 0, 0, 1, 1, 1, 1, 3, 4, 5, 6, 6, 7, dice.below(9)])
  const most = dice.pick([16, 512, 4 * KiB, 12 * KiB, 64 * KiB, size])
  const length = 1 + dice.below(Math.min(most, size))
  head.writeUInt32BE(requestMagic, 0)
  const flags = dice.chance(0.2) ? dice.below(32) : dice.pick([0, 0, 1])
  head.writeUInt16BE(flags, 4)
  head.writeUInt16BE(type, 6)
  head.writeUInt32BE(dice.next(), 8)
  head.writeUInt32BE(dice.next(), 12)
  if (type !== 3) {
    // Mostly where other requests are as well, sometimes beyond the end.
    const room = dice.chance(0.95) ? size - length + 1 : size
    head.writeBigUInt64BE(BigInt(dice.below(room)), 16)
    head.writeUInt32BE(length, 24)
  }
  if (type !== 1) return [{ bytes: head, fields: requestFields }]
  // Bytes that are cut off within a payload, or said twice, are other requests' headers.
  const payload = noiseOf(dice, length)
  return [{ bytes: head, fields: requestFields }, { bytes: payload }]
}

/** How a client begins, up to the transmission. */
function handshake(dice: Dice): Part[] {
  const flags = Buffer.alloc(4)
  flags.writeUInt32BE(dice.pick([3, 3, 3, 1]))
  const parts: Part[] = [{ bytes: flags, fields: fieldsOf('big', [0, 4]) }]
  const name = dice.pick([names.open, names.open, names.open, names.readOnly, 'nowhere', ''])
  const base = 'base:allocation'
  const queries = dice.pick([[base], [base], [], ['base:'], ['qemu:dirty-bitmap:x', base]])
  const choices: (() => Part)[] = [
    () => option(3, Buffer.alloc(0)),
    () => option(8, Buffer.alloc(0)),
    () => option(9, context(name, queries)),
    () => option(10, context(name, queries)),
    () => option(6, info(name, [0, 1, 2, 3])),
    () => option(5, Buffer.alloc(0)),
    () => option(dice.below(14), noiseOf(dice, dice.below(40))),
    () => option(dice.below(14), noiseOf(dice, dice.pick([8255, 8256, 8257, 40_000]))),
  ]
  for (let left = dice.below(4); left > 0; left--) parts.push(dice.pick(choices)())
  if (dice.chance(0.6)) parts.push(choices[1]!(), choices[3]!())
  if (dice.chance(0.15)) parts.push(option(1, Buffer.from(name)))
  else parts.push(option(7, info(name, dice.pick([[], [3], [0, 1, 2, 3]]))))
  return parts
}

/** A whole conversation with a device of `size` bytes. */
export function conversation(dice: Dice, size: number): readonly Part[] {
  const parts = handshake(dice)
  for (let left = dice.below(dice.pick([4, 24])); left > 0; left--)
    parts.push(...request(dice, size))
  if (dice.chance(0.2)) {
    const head = Buffer.alloc(28)
    head.writeUInt32BE(requestMagic, 0)
    head.writeUInt16BE(2, 6)
    parts.push({ bytes: head, fields: requestFields })
  }
  return parts
}
