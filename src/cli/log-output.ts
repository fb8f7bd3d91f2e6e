import fs, { constants } from 'node:fs'
import net from 'node:net'
import type { Writable } from 'node:stream'
import { MiB } from '../base/size.ts'

/** Bytes of lines that wait to be read; more are dropped and counted. */
const queuedBytesMax = 1 * MiB

/** Milliseconds that the end of the process waits until its last lines are read. */
const flushTimeoutMs = 1000

/**
 * Writes a log to standard error. Node would wait for a pipe, a terminal or a socket, so that a
 * reader that stands still (Ctrl-S, a stopped process, a stuck journal) would stop the target. Here
 * lines wait in memory, up to a limit, and the others are dropped. A file is written to at once,
 * because it needs no reader.
 */
export class LogOutput {
  private readonly stream: Writable
  private readonly lost: (lines: number) => void
  private lines = 0

  /** `lost` gets the number of dropped lines once there is room again, and may write a line. */
  constructor(lost: (lines: number) => void) {
    this.lost = lost
    this.stream = openOutput()
    // The reader may go away, and a disk may be full: clients are served all the same.
    this.stream.removeAllListeners('error').on('error', () => undefined)
    this.stream.on('drain', this.tellLost)
  }

  /** Writes a line, or drops it when too many wait. */
  write(line: string): void {
    const { stream } = this
    if (stream.destroyed) return
    if (stream.writableLength > queuedBytesMax) this.lines++
    else stream.write(line)
  }

  /** Resolves when all lines were read, or after a second, for there may be no reader. */
  async flush(): Promise<void> {
    const { stream } = this
    if (stream.writableLength === 0 || stream.destroyed) return
    await new Promise<void>((resolve) => {
      stream.once('drain', resolve).once('close', resolve)
      setTimeout(resolve, flushTimeoutMs)
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
  // Node has its own descriptor of a terminal, and no other process writes to our socket.
  if (stderr.isTTY || stats.isSocket()) dontWait(stderr)
  return stderr
}

/**
 * Opens the same pipe again, or returns null: a descriptor that does not wait would do the same in
 * all processes that the shell gave it to, which do not expect that.
 */
function openPipe(fd: number): Writable | null {
  try {
    const own = fs.openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK)
    return new net.Socket({ fd: own, readable: false, writable: true })
  } catch {
    return null
  }
}

/** Has the stream not wait, by an undocumented handle; without that the stream does wait. */
function dontWait(stream: Writable): void {
  const { _handle: handle } = stream as unknown as {
    readonly _handle?: { readonly setBlocking?: (blocking: boolean) => void }
  }
  handle?.setBlocking?.(false)
}
