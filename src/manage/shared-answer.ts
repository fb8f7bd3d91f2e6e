import { setTimeout as pause } from 'node:timers/promises'

/** Milliseconds between two answers. */
const interval = 100

/**
 * An answer that costs something to make, and is made ten times a second at most, whoever asks how
 * often. It is never older than the question: those who ask too soon wait for the next one.
 */
export class SharedAnswer {
  private readonly make: () => unknown
  private next: Promise<Buffer> | null = null
  /** Monotonic, milliseconds. */
  private madeAt = -Infinity

  constructor(make: () => unknown) {
    this.make = make
  }

  /** The same bytes for all who wait: JSON, with a line's end. */
  get(): Promise<Buffer> {
    this.next ??= this.makeSoon()
    return this.next
  }

  private async makeSoon(): Promise<Buffer> {
    const wait = this.madeAt + interval - performance.now()
    if (wait > 0) await pause(wait)
    else await Promise.resolve()
    this.next = null
    this.madeAt = performance.now()
    return encodeAnswer(await this.make())
  }
}

export function encodeAnswer(value: unknown): Buffer {
  return Buffer.from(`${JSON.stringify(value)}\n`)
}
