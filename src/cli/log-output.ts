import fs, { constants } from 'node:fs'
import net from 'node:net'
import type { Writable } from 'node:stream'
import { MiB } from '../base/size.ts'

/** Bytes of lines that wait for somebody to read them; more are dropped, and counted. */
const queuedBytesMax = 1 * MiB

/** Milliseconds that the end of a process waits for its last lines to be taken. */
const flushTimeout = 1000

/**
 * Standard error, as the place of a log. Node writes to a pipe, a terminal or a socket and waits
 * until that is done: whoever reads the log and stands still (Ctrl-S, a stopped process, a stuck
 * journal) would stop the whole target. Here lines wait in memory, so many of them, and the others
 * are dropped. A file is written to at once: nobody has to read it.
 */
export class LogOutput {
  private readonly stream: Writable
  private readonly lost: (lines: number) => void
  private lines = 0

  /** `lost` is told, once there is room again, how many lines were dropped; it may write a line. */
  constructor(lost: (lines: number) => void) {
    this.lost = lost
    this.stream = openOutput()
    // Whoever reads may go away, and a disk may be full: clients are served all the same.
    this.stream.removeAllListeners('error').on('error', () => undefined)
    this.stream.on('drain', this.tellLost)
  }

  /** Lines that were dropped and not told of yet. */
  get dropped(): number {
    return this.lines
  }

  write(line: string): void {
    const { stream } = this
    if (stream.destroyed) return
    if (stream.writableLength > queuedBytesMax) this.lines++
    else stream.write(line)
  }

  /** Resolves when all that waits was taken, or after a second: nobody may be there to take it. */
  async flush(): Promise<void> {
    const { stream } = this
    if (stream.writableLength === 0 || stream.destroyed) return
    await new Promise<void>((resolve) => {
      stream.once('drain', resolve).once('close', resolve)
      setTimeout(resolve, flushTimeout)
    })
  }

  private readonly tellLost = (): void => {
    const { lines } = this
    this.lines = 0
    if (lines > 0) this.lost(lines)
  }
}

function openOutput(): Writable {
  const { stderr } = process
  const stats = fs.fstatSync(stderr.fd)
  if (stats.isFIFO()) return openPipe(stderr.fd) ?? stderr
  // Of a terminal Node has a descriptor of its own, and nobody else writes to our socket.
  if (stderr.isTTY || stats.isSocket()) dontWait(stderr)
  return stderr
}

/**
 * The same pipe once more: not to wait is a property that a descriptor shares with others that the
 * shell gave it to, and they would not expect it. Null where that cannot be.
 */
function openPipe(fd: number): Writable | null {
  try {
    const own = fs.openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK)
    return new net.Socket({ fd: own, readable: false, writable: true })
  } catch {
    return null
  }
}

/** By the undocumented handle; where that is not what we know, the stream waits as it did. */
function dontWait(stream: Writable): void {
  const { _handle: handle } = stream as unknown as {
    readonly _handle?: { readonly setBlocking?: (blocking: boolean) => void }
  }
  handle?.setBlocking?.(false)
}
