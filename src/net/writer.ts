import type net from 'node:net'
import { getSystemErrorName } from 'node:util'
import { Ring } from '../base/ring.ts'
import { KiB } from '../base/size.ts'

/** What Node hands to a handle with each write, to be called back if the write has to wait. */
interface WriteRequest {
  oncomplete: (errno: number) => void
  /** Keeps the memory of the bytes alive until then. */
  buffers: readonly Buffer[] | null
}

/** The used part of a socket's undocumented handle: LibuvStreamWrap in Node's stream_wrap.cc. */
interface Handle {
  /** Both return 0, or a negative error number of libuv. */
  writeBuffer(request: WriteRequest, bytes: Buffer): number
  writev(request: WriteRequest, buffers: readonly Buffer[], allBuffers: true): number
}

/** How Node's own streams learn what became of a write: lib/internal/stream_base_commons.js. */
interface StreamBinding {
  readonly WriteWrap: new () => WriteRequest
  readonly streamBaseState: Int32Array
  /** Where `streamBaseState` says whether the last write has to wait for the kernel. */
  readonly kLastWriteWasAsync: number
  /** There from Node 26 on, where requests work in another way and streams do not make one each. */
  readonly kLastWriteErr?: number
}

const binding = findBinding()

/**
 * Writes to a socket past its stream, which makes about seven objects for each write. A write that
 * the kernel takes at once, as it does almost always, makes none here. It rests on an undocumented
 * handle: where that looks different, `writerOf` gives null. Nothing else writes to the socket.
 */
export class Writer {
  private readonly socket: net.Socket
  private readonly handle: Handle
  private readonly stream: StreamBinding
  private readonly wrote: () => void
  /** For the next write: used again unless the last one waits. */
  private request: WriteRequest

  constructor(socket: net.Socket, handle: Handle, stream: StreamBinding, wrote: () => void) {
    this.socket = socket
    this.handle = handle
    this.stream = stream
    this.wrote = wrote
    this.request = new stream.WriteWrap()
  }

  /**
   * Returns whether the kernel has taken everything. If not, `wrote` is called when it has, or the
   * socket is destroyed with the error.
   */
  write(buffers: readonly Buffer[]): boolean {
    const { handle, request, stream } = this
    const error =
      buffers.length === 1
        ? handle.writeBuffer(request, buffers[0]!)
        : handle.writev(request, buffers, true)
    if (error !== 0) {
      fail(this.socket, error)
      return false
    }
    if (stream.streamBaseState[stream.kLastWriteWasAsync] === 0) return true
    this.wait(request, buffers)
    return false
  }

  private wait(request: WriteRequest, buffers: readonly Buffer[]): void {
    request.buffers = [...buffers]
    request.oncomplete = (errno) => {
      if (errno === 0) this.wrote()
      else fail(this.socket, errno)
    }
    this.request = new this.stream.WriteWrap()
  }
}

function fail(socket: net.Socket, errno: number): void {
  const code = getSystemErrorName(errno)
  // Does nothing to a socket that is being closed, which is what fails most writes that wait.
  socket.destroy(Object.assign(new Error(`write ${code}`), { code }))
}

/** Makes a writer, which calls `wrote` after each write that had to wait; null: use the stream. */
export function writerOf(socket: net.Socket, wrote: () => void): Writer | null {
  const handle = handleOf(socket)
  return handle === null ? null : new Writer(socket, handle, binding!, wrote)
}

/** The handle of a socket; null where it, or what writes to it, is missing or looks different. */
function handleOf(socket: net.Socket): Handle | null {
  const { _handle: handle } = socket as unknown as { _handle?: Partial<Handle> | null }
  if (binding === null || handle == null) return null
  if (typeof handle.writeBuffer !== 'function' || typeof handle.writev !== 'function') return null
  return handle as Handle
}

/** Node's own binding; null where it is missing or looks different. */
function findBinding(): StreamBinding | null {
  try {
    const { binding: find } = process as unknown as {
      binding: (name: string) => Partial<StreamBinding>
    }
    const found = find('stream_wrap')
    const known =
      typeof found.WriteWrap === 'function' &&
      found.streamBaseState instanceof Int32Array &&
      typeof found.kLastWriteWasAsync === 'number' &&
      found.kLastWriteErr === undefined
    return known ? (found as StreamBinding) : null
  } catch {
    return null
  }
}

/**
 * Bytes of one write to a handle of TLS: they are encrypted in one go, into memory of their size.
 */
const sealedBytesMax = 256 * KiB

/**
 * Writes to a socket under TLS past its stream. Its handle takes one write at a time, and a second
 * one stops the process: what comes meanwhile waits here, and leaves with the next write.
 */
export class QueuedWriter {
  private readonly socket: net.Socket
  private readonly handle: Handle
  private readonly stream: StreamBinding
  private readonly wrote: () => void
  private readonly waiting = new Ring<Buffer>()
  /** For each of these whether a call of `write` ends with it. */
  private readonly ends = new Ring<boolean>()
  /** The part of the first of them that has been written. */
  private begun = 0
  private writing = false
  /** How many calls of `write` end with what is being written. */
  private ending = 0
  private idle: (() => void) | null = null

  constructor(socket: net.Socket, handle: Handle, stream: StreamBinding, wrote: () => void) {
    this.socket = socket
    this.handle = handle
    this.stream = stream
    this.wrote = wrote
  }

  /** `wrote` is called when all is sent, never before this returns; hence false, as for a wait. */
  write(buffers: readonly Buffer[]): false {
    const last = buffers.length - 1
    for (let at = 0; at <= last; at++) {
      this.waiting.push(buffers[at]!)
      this.ends.push(at === last)
    }
    if (!this.writing) this.next()
    return false
  }

  /** Calls back once all is sent, perhaps at once; not after an error. */
  whenIdle(callback: () => void): void {
    if (this.writing) this.idle = callback
    else callback()
  }

  private next(): void {
    const buffers = this.take()
    if (buffers.length === 0) {
      this.idle?.()
      this.idle = null
      return
    }
    this.writing = true
    const request = new this.stream.WriteWrap()
    request.buffers = buffers
    request.oncomplete = this.completed
    const error = this.handle.writev(request, buffers, true)
    if (error !== 0) fail(this.socket, error)
    else if (this.stream.streamBaseState[this.stream.kLastWriteWasAsync] === 0)
      process.nextTick(this.completed, 0)
  }

  /** Takes what one write may have off the queue. */
  private take(): Buffer[] {
    const { waiting } = this
    const taken: Buffer[] = []
    for (let left = sealedBytesMax; left > 0 && waiting.length > 0;) {
      const first = waiting.peek()!
      const end = Math.min(first.length, this.begun + left)
      taken.push(end - this.begun === first.length ? first : first.subarray(this.begun, end))
      left -= end - this.begun
      this.begun = end
      if (end < first.length) break
      this.begun = 0
      waiting.shift()
      if (this.ends.shift() === true) this.ending++
    }
    return taken
  }

  private readonly completed = (errno: number): void => {
    if (errno !== 0) {
      fail(this.socket, errno)
      return
    }
    const { ending } = this
    this.ending = 0
    // What is sent from within joins the next write.
    for (let told = 0; told < ending; told++) this.wrote()
    this.writing = false
    if (!this.socket.destroyed) this.next()
  }
}

/** As `writerOf`, for a socket under TLS. */
export function queuedWriterOf(socket: net.Socket, wrote: () => void): QueuedWriter | null {
  const handle = handleOf(socket)
  return handle === null ? null : new QueuedWriter(socket, handle, binding!, wrote)
}
