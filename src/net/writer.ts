import type net from 'node:net'
import { getSystemErrorName } from 'node:util'

/** What Node hands to a handle with each write, to be called back if the write has to wait. */
interface WriteRequest {
  oncomplete: (status: number) => void
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
      this.fail(error)
      return false
    }
    if (stream.streamBaseState[stream.kLastWriteWasAsync] === 0) return true
    this.wait(request, buffers)
    return false
  }

  private wait(request: WriteRequest, buffers: readonly Buffer[]): void {
    request.buffers = [...buffers]
    request.oncomplete = (status) => {
      if (status === 0) this.wrote()
      else this.fail(status)
    }
    this.request = new this.stream.WriteWrap()
  }

  private fail(status: number): void {
    const code = getSystemErrorName(status)
    // Does nothing to a socket that is being closed, which is what fails most writes that wait.
    this.socket.destroy(Object.assign(new Error(`write ${code}`), { code }))
  }
}

/** Makes a writer, which calls `wrote` after each write that had to wait; null: use the stream. */
export function writerOf(socket: net.Socket, wrote: () => void): Writer | null {
  const { _handle: handle } = socket as unknown as { _handle?: Partial<Handle> | null }
  if (binding === null || handle == null) return null
  if (typeof handle.writeBuffer !== 'function' || typeof handle.writev !== 'function') return null
  return new Writer(socket, handle as Handle, binding, wrote)
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
