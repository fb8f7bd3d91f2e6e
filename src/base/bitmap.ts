import { assert } from './errors.ts'

/** Bits per counted group: `next` skips a group without bits in one step. */
const groupBits = 4096

/** A fixed number of bits, with their count kept, and searches that skip what is empty. */
export class Bitmap {
  /** The number of bits, set or not. */
  readonly length: number
  /** Bit `n` is bit `n & 7` of byte `n >> 3`. For reading; write through the methods. */
  readonly bytes: Uint8Array
  private readonly groups: Uint16Array
  private ones = 0

  constructor(length: number) {
    this.length = length
    this.bytes = new Uint8Array(Math.ceil(length / 8))
    this.groups = new Uint16Array(Math.ceil(length / groupBits))
  }

  /** The number of bits that are set. */
  get count(): number {
    return this.ones
  }

  has(bit: number): boolean {
    return (this.bytes[bit >> 3]! & (1 << (bit & 7))) !== 0
  }

  /** Sets the bit. Returns false if it was set already. */
  set(bit: number): boolean {
    assert(bit >= 0 && bit < this.length, 'a bit within the map')
    const byte = this.bytes[bit >> 3]!
    const mask = 1 << (bit & 7)
    if ((byte & mask) !== 0) return false
    this.bytes[bit >> 3] = byte | mask
    this.groups[Math.floor(bit / groupBits)]!++
    this.ones++
    return true
  }

  /** Clears the bit. Returns false if it was clear already. */
  clear(bit: number): boolean {
    if (!this.has(bit)) return false
    this.bytes[bit >> 3]! &= ~(1 << (bit & 7))
    this.groups[Math.floor(bit / groupBits)]!--
    this.ones--
    return true
  }

  /** Returns the first set bit at `from` or after it, -1 when there is none. */
  next(from: number): number {
    for (let bit = from; bit < this.length;) {
      if (this.groups[Math.floor(bit / groupBits)] === 0) {
        bit = (Math.floor(bit / groupBits) + 1) * groupBits
        continue
      }
      const rest = this.bytes[bit >> 3]! >> (bit & 7)
      if (rest !== 0) return bit + 31 - Math.clz32(rest & -rest)
      bit = ((bit >> 3) + 1) * 8
    }
    return -1
  }

  setAll(): void {
    this.bytes.fill(0xff)
    this.recount()
  }

  clearAll(): void {
    this.bytes.fill(0)
    this.recount()
  }

  /** Sets every bit that `other`, of the same length, has set. */
  merge(other: Bitmap): void {
    for (let at = 0; at < this.bytes.length; at++) this.bytes[at]! |= other.bytes[at]!
    this.recount()
  }

  /** Makes the map equal to `other`, of the same length. */
  copy(other: Bitmap): void {
    this.bytes.set(other.bytes)
    this.recount()
  }

  /** Sets the bits that are set in `bytes`, whose first bit is bit `firstByte * 8` of the map. */
  mergeBytes(firstByte: number, bytes: Uint8Array): void {
    const end = Math.min(bytes.length, this.bytes.length - firstByte)
    for (let at = 0; at < end; at++) this.bytes[firstByte + at]! |= bytes[at]!
    this.recount(firstByte, firstByte + end)
  }

  /** Counts the groups of the bytes `from` to `to` again. */
  private recount(from = 0, to = this.bytes.length): void {
    if (this.length % 8 !== 0) this.bytes[this.bytes.length - 1]! &= (1 << (this.length % 8)) - 1
    const groupBytes = groupBits / 8
    for (let group = Math.floor(from / groupBytes); group * groupBytes < to; group++) {
      const end = Math.min((group + 1) * groupBytes, this.bytes.length)
      let ones = 0
      for (let at = group * groupBytes; at < end; at++) ones += onesOf[this.bytes[at]!]!
      this.ones += ones - this.groups[group]!
      this.groups[group] = ones
    }
  }
}

const onesOf = new Uint8Array(256)
for (let byte = 1; byte < 256; byte++) onesOf[byte] = onesOf[byte >> 1]! + (byte & 1)
