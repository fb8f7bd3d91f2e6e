import { setTimeout as pause } from 'node:timers/promises'

/** Milliseconds between two answers at least. */
const interval = 100

/**
 * An answer that costs time to make, and so is made ten times a second at most, however many
 * clients ask. It is never older than the question: a client that asks too soon waits for the next.
 */
export class SharedAnswer {
  private readonly make: () => unknown
  private next: Promise<Buffer> | null = null
  /** Milliseconds on the monotonic clock. */
  private madeAt = -Infinity

  constructor(make: () => unknown) {
    this.make = make
  }

  /**
   * Resolves to the answer as JSON with a line end. All callers that wait share one buffer, so none
   * may change it.
   */
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

/** Encodes an answer as JSON with a line end. */
export function encodeAnswer(value: unknown): Buffer {
  return Buffer.from(`${JSON.stringify(value)}\n`)
}
