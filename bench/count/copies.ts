/**
 * Counts the bytes that this process copies in user space, by standing in front of everything that
 * JavaScript has to copy bytes of buffers with. That allocates: it is there only while it counts.
 */
export class CopyCounter {
  private bytes = 0
  private readonly restore: (() => void)[] = []

  start(): void {
    this.bytes = 0
    const typed = Object.getPrototypeOf(Uint8Array.prototype) as Methods
    const buffer: unknown = Buffer.prototype
    const statics: unknown = Buffer
    this.watch(buffer, 'copy', (copied) => Number(copied))
    this.watch(typed, 'set', (_, [source]) => (source as Sized).byteLength ?? 0)
    this.watch(typed, 'slice', (made) => (made as Sized).byteLength ?? 0)
    // Less than this is copied when the end comes first: an upper bound will do.
    this.watch(typed, 'copyWithin', (_, [, from, end]) => Number(end ?? 0) - Number(from))
    this.watch(statics, 'concat', (made) => (made as Buffer).length)
    this.watch(statics, 'from', (made, [source]) =>
      ArrayBuffer.isView(source) ? (made as Buffer).length : 0,
    )
  }

  /** Returns the bytes copied since the start. */
  stop(): number {
    for (const undo of this.restore.splice(0)) undo()
    return this.bytes
  }

  /** Puts itself in front of a method; `count` tells how many bytes a call has copied. */
  private watch(
    on: unknown,
    name: string,
    count: (result: unknown, parameters: readonly unknown[]) => number,
  ): void {
    const methods = on as Methods
    const method = methods[name]!
    const add = (bytes: number): void => {
      this.bytes += bytes
    }
    methods[name] = function (...parameters) {
      const result = method.apply(this, parameters)
      add(count(result, parameters))
      return result
    }
    this.restore.push(() => {
      methods[name] = method
    })
  }
}

interface Sized {
  readonly byteLength?: number
}

type Methods = Record<string, (this: unknown, ...parameters: unknown[]) => unknown>
