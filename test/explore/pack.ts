/** Bytes of the longest state. */
export const packBytes = 4096

/**
 * Writes or reads a state, a byte at a time, by one and the same code: `x = pack.byte(x)` writes
 * `x`, or gives what was written. So what is written and what is read cannot differ.
 */
export class Pack {
  /** What was written, in words of four bytes. */
  readonly words: Uint32Array
  bytes: Uint8Array
  writing = true
  at = 0
  private readonly own: Uint8Array

  constructor() {
    const buffer = new ArrayBuffer(packBytes)
    this.bytes = this.own = new Uint8Array(buffer)
    this.words = new Uint32Array(buffer)
  }

  beginWriting(): void {
    this.bytes = this.own
    this.writing = true
    this.at = 0
  }

  /** Reads what is there: it may not change before it was read. */
  beginReading(from: Uint8Array, at: number): void {
    this.bytes = from
    this.writing = false
    this.at = at
  }

  /** Fills the last word with zeroes: so many words were written. */
  pad(): number {
    if (this.at + 4 > packBytes) throw new Error('a state is too long')
    const length = (this.at + 3) >> 2
    for (let at = this.at; at < length * 4; at++) this.bytes[at] = 0
    return length
  }

  /** 0 to 255. */
  byte(value: number): number {
    if (!this.writing) return this.bytes[this.at++]!
    if (value < 0 || value > 255) throw new Error(`${value} is no byte of a state`)
    this.bytes[this.at++] = value
    return value
  }

  flag(value: boolean): boolean {
    return this.byte(value ? 1 : 0) === 1
  }

  /** One of the words, or null. */
  word<T extends string>(words: readonly T[], value: T | null): T | null {
    const at = this.byte(value === null ? 0 : words.indexOf(value) + 1)
    return at === 0 ? null : words[at - 1]!
  }

  /** Numbers, in their order. */
  list(values: number[]): number[] {
    const length = this.byte(values.length)
    if (this.writing) {
      for (const value of values) this.byte(value)
      return values
    }
    const read: number[] = []
    for (let at = 0; at < length; at++) read.push(this.bytes[this.at++]!)
    return read
  }
}
