import net from 'node:net'
import { lstatSync, rmSync } from 'node:fs'
import { timerMax } from '../base/clock.ts'
import { StorageError, type Code } from '../base/errors.ts'
import { Ring } from '../base/ring.ts'
import { KiB, MiB } from '../base/size.ts'
import { bindPrivately, giveAccess, ownerOnly } from './access.ts'
import { formatAddress, originOf, type Address } from './address.ts'
import { local, remoteAt, type Identity } from './identity.ts'
import type {
  Accept,
  Connection,
  ConnectionHandler,
  Listener,
  ListenOptions,
  Network,
} from './network.ts'
import { writerOf, type Writer } from './writer.ts'

/**
 * How bytes are received. `landing` has the socket write them where the handler wants them; for
 * accepted sockets that rests on an undocumented handle, so this file falls back to `events`, which
 * copies them there, by itself. Chosen by DST_RECEIVE for tests.
 */
export type Receive = 'landing' | 'events'

/**
 * Bytes that a stream takes before it reports that it is full; we count by ourselves. Not for
 * streams that buffer what they read: paused, each would hold as many that no limit counts.
 */
const highWaterMark = 1 * MiB

/**
 * Bytes of a batch. A unix socket holds 208 KiB: with more it is never empty while the next batch
 * is made. A TCP socket holds megabytes, and smaller batches keep it from growing that far.
 */
const batchBytes = { unix: 256 * KiB, tcp: 2 * MiB } as const

/** Milliseconds that an ended connection waits for its peer to read the last bytes and close. */
const lingerTimeout = 2000

/** Milliseconds of silence after which a server that we dialed is asked whether it is there. */
const keepAliveDialed = 60_000

/** The least and the most milliseconds that the system takes for that. */
const keepAliveMin = 1000
const keepAliveMax = 32_767_000

/** Sockets of the operating system: TCP and unix. */
export class SocketNetwork implements Network {
  private readonly receive: Receive

  constructor(receive: Receive = process.env['DST_RECEIVE'] === 'events' ? 'events' : 'landing') {
    this.receive = receive
  }

  connect(
    address: Address,
    timeout: number,
    attach: (connection: Connection) => ConnectionHandler,
    failed: (error: StorageError) => void,
  ): () => void {
    const connection = new SocketConnection(formatAddress(address), address.kind)
    let settled = false
    const settle = (): boolean => {
      if (settled) return false
      settled = true
      clearTimeout(timer)
      return true
    }
    const fail = (error: StorageError): void => {
      if (!settle()) return
      socket.destroy()
      failed(error)
    }
    const patience = Math.min(timeout, timerMax)
    const timer = setTimeout(() => {
      fail(new StorageError('TIMEOUT', `no connection to ${connection.peer} in ${timeout} ms`))
    }, patience)
    const options: net.TcpNetConnectOpts | net.IpcNetConnectOpts = {
      ...(address.kind === 'unix'
        ? { path: address.path }
        : {
            host: address.host,
            port: address.port,
            noDelay: true,
            keepAlive: true,
            keepAliveInitialDelay: keepAliveDialed,
          }),
      autoSelectFamilyAttemptTimeout: Math.max(10, Math.floor(patience / 2)),
      ...(this.receive === 'landing' ? { onread: connection.onread } : {}),
    }
    const socket = net.connect(options)
    connection.socket = socket
    connection.dialed = true
    socket.once('error', (error) => {
      fail(problemOf('UNAVAILABLE', `connecting to ${connection.peer}`, error))
    })
    socket.once('connect', () => {
      if (!settle()) return
      if (address.kind === 'tcp') connection.identity = remoteAt(socket.remoteAddress ?? '')
      connection.start(attach(connection), this.receive)
    })
    return () => {
      if (settle()) socket.destroy()
    }
  }

  async listen(
    address: Address,
    accept: Accept,
    { access = ownerOnly, keepAlive = 0 }: ListenOptions = {},
  ): Promise<Listener> {
    const landing = this.receive === 'landing'
    const delay = keepAlive === 0 ? 0 : Math.min(keepAliveMax, Math.max(keepAliveMin, keepAlive))
    const server = net.createServer(
      { pauseOnConnect: landing, noDelay: true, keepAlive: true, keepAliveInitialDelay: delay },
      (accepted) => {
        const connection = new SocketConnection(peerOf(accepted), address.kind)
        if (address.kind === 'tcp') connection.cameFrom(accepted.remoteAddress ?? '')
        connection.descriptor = descriptorOf(accepted)
        connection.socket = landing ? rewrap(accepted, connection) : accepted
        const handler = accept(connection)
        if (handler === null) connection.destroy()
        else connection.start(handler, this.receive)
      },
    )
    if (address.kind === 'unix') await removeStaleSocket(address.path)
    await new Promise<void>((resolve, reject) => {
      // Stays: too many open files while accepting is reported here too, and must not stop us.
      server.on('error', (error) => {
        reject(problemOf('CONFIG', `listening on ${formatAddress(address)}`, error))
      })
      if (address.kind === 'tcp') server.listen(address.port, address.host, resolve)
      // A unix socket is bound before `listen` returns.
      else bindPrivately(() => server.listen(address.path, resolve))
    })
    if (address.kind === 'unix')
      await giveAccess(address.path, access).catch((error: unknown) => {
        server.close()
        throw error
      })
    const bound = server.address()
    return {
      address:
        address.kind === 'tcp' && bound !== null && typeof bound === 'object'
          ? { ...address, port: bound.port }
          : address,
      // The server's own wait for its connections does not see rewrapped sockets end.
      close: () => {
        server.close()
        return Promise.resolve()
      },
    }
  }
}

/**
 * Where the first byte of a connection lands: sockets ask before there is a handler. One for all,
 * because the byte is copied out before anything else happens.
 */
const threshold = Buffer.alloc(1)
/** Where bytes land that are not used. */
const discard = Buffer.alloc(64 * KiB)

class SocketConnection implements Connection {
  readonly peer: string
  identity: Identity = local
  origin: string | undefined
  descriptor: number | undefined
  readonly batchBytes: number
  /** Set once, right after construction; `onread` has to exist before the socket. */
  socket!: net.Socket
  /** For the socket's constructor: lands bytes where the handler wants them. */
  readonly onread: { buffer: () => Buffer; callback: (bytes: number, buffer: Buffer) => boolean }
  /** True on the side that connected. */
  dialed = false
  private writer: Writer | null = null
  /**
   * Sends that the stream is not given yet, and whether it has one now. It gets one at a time: of
   * several it would report none before the last was sent.
   */
  private readonly waiting = new Ring<readonly Buffer[]>()
  private flowing = false
  /** How many sends are done that the handler was not told of. */
  private taken = 0
  private delivering = false
  private telling = false
  private handler: ConnectionHandler | null = null
  private paused = false
  private ended = false
  private lingering: NodeJS.Timeout | undefined
  private problem: StorageError | null = null

  constructor(peer: string, kind: Address['kind']) {
    this.peer = peer
    this.batchBytes = batchBytes[kind]
    this.onread = {
      buffer: () => {
        if (this.handler === null) return threshold
        return this.ended ? discard : this.handler.landing()
      },
      callback: (bytes, buffer) => {
        if (this.ended) return !this.paused
        this.delivering = true
        if (buffer === threshold) this.copyIn(buffer)
        else this.handler!.landed(bytes)
        this.delivering = false
        if (this.taken > 0) this.tell()
        return !this.paused
      },
    }
  }

  /** Notes the IP address of a client over TCP. */
  cameFrom(host: string): void {
    this.identity = remoteAt(host)
    this.origin = originOf(host)
  }

  /** With `landing`, bytes are also sent past the stream, where that is possible. */
  start(handler: ConnectionHandler, receive: Receive): void {
    const { socket } = this
    this.handler = handler
    if (receive === 'landing') this.writer = writerOf(socket, this.wrote)
    socket.on('error', (error) => {
      this.problem = problemOf('UNAVAILABLE', `connection to ${this.peer}`, error)
    })
    socket.on('close', () => {
      clearTimeout(this.lingering)
      this.taken = 0
      handler.closed(this.problem)
    })
    // The peer sends no more: there are no half-closed conversations in our protocols.
    socket.on('end', () => socket.destroy())
    // Silent on a socket that lands bytes by itself.
    socket.on('data', (chunk) => this.copyIn(chunk))
    if (this.paused) socket.pause()
    else socket.resume()
  }

  send(buffers: readonly Buffer[]): void {
    const { socket } = this
    if (socket.destroyed || this.ended) return
    if (this.writer !== null) {
      if (this.writer.write(buffers) && this.taken++ === 0 && !this.delivering && !this.telling)
        process.nextTick(this.tell)
      return
    }
    if (this.flowing) this.waiting.push([...buffers])
    else this.give(buffers)
  }

  /** Hands one send to the stream. */
  private give(buffers: readonly Buffer[]): void {
    const { socket } = this
    this.flowing = true
    const last = buffers.length - 1
    if (last > 0) socket.cork()
    for (let at = 0; at < last; at++) socket.write(buffers[at]!)
    socket.write(buffers[last]!, this.flowed)
    if (last > 0) socket.uncork()
  }

  private giveNext(): void {
    const next = this.waiting.shift()
    if (next !== undefined) this.give(next)
  }

  pause(): void {
    this.paused = true
    this.socket.pause()
  }

  resume(): void {
    this.paused = false
    if (!this.socket.destroyed) this.socket.resume()
  }

  end(): void {
    const { socket } = this
    if (this.ended || socket.destroyed) return
    this.ended = true
    while (this.waiting.length > 0) this.giveNext()
    // Closing while bytes of the peer are unread would reset the connection, and the peer might
    // never see our last words. So what it still sends is dropped until it closes too.
    socket.end(() => {
      if (socket.destroyed) return
      this.lingering = setTimeout(() => socket.destroy(), lingerTimeout)
      this.lingering.unref()
      this.resume()
    })
  }

  destroy(): void {
    const { socket } = this
    // Closed in the ordinary way, the system would go on sending what it has, for minutes, and an
    // old connection's writes would arrive after a newer one's. Unix sockets cannot be reset.
    if (this.dialed && socket.remotePort !== undefined) socket.resetAndDestroy()
    else socket.destroy()
  }

  /**
   * Reports the sends that are done; never from within `send`, whose caller is in the middle of
   * something. What is sent meanwhile is reported in another turn, or a peer that takes everything
   * at once would have the event loop to itself.
   */
  private readonly tell = (): void => {
    this.telling = true
    for (let left = this.taken; left > 0 && this.taken > 0; left--) {
      this.taken--
      this.handler!.sent()
    }
    this.telling = false
    if (this.taken > 0) setImmediate(this.tell)
  }

  /** A write that had to wait is done. */
  private readonly wrote = (): void => this.handler!.sent()

  /** The stream is done with the send that it was given. */
  private readonly flowed = (error?: Error | null): void => {
    // A failed write is followed by `closed`, which lets go of everything at once.
    if (error !== undefined && error !== null) return
    this.flowing = false
    this.giveNext()
    if (this.taken++ === 0 && !this.delivering && !this.telling) setImmediate(this.tell)
  }

  private copyIn(chunk: Buffer): void {
    const handler = this.handler!
    for (let at = 0; at < chunk.length && !this.socket.destroyed && !this.ended;) {
      const bytes = chunk.copy(handler.landing(), 0, at)
      at += bytes
      handler.landed(bytes)
    }
  }
}

/**
 * The same connection as a socket that lands its bytes: servers cannot be told so beforehand
 * (nodejs/node 25436 gave `onread` to clients only), hence the undocumented handle. Where that
 * looks different, the socket stays as it is and its bytes are copied.
 */
function rewrap(accepted: net.Socket, connection: SocketConnection): net.Socket {
  const { _handle: handle } = accepted as unknown as { _handle?: { useUserBuffer?: unknown } }
  if (typeof handle?.useUserBuffer !== 'function') return accepted
  return new net.Socket({
    handle,
    highWaterMark,
    onread: connection.onread,
  } as unknown as net.SocketConstructorOpts)
}

function descriptorOf(socket: net.Socket): number | undefined {
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: unknown } | null }
  const descriptor = handle?.fd
  return typeof descriptor === 'number' && descriptor >= 0 ? descriptor : undefined
}

function problemOf(code: Code, doing: string, error: Error): StorageError {
  return new StorageError(code, `${doing}: ${error.message}`, '', error)
}

/** Names the peer of a socket, for logs and status. */
export function peerOf(socket: net.Socket): string {
  const { remoteAddress: host, remotePort: port } = socket
  return host === undefined || port === undefined
    ? 'a local process'
    : formatAddress({ kind: 'tcp', host, port })
}

/** Removes a unix socket that no process listens on any more; one in use stays. */
export async function removeStaleSocket(path: string): Promise<void> {
  const refused = await new Promise<boolean>((resolve) => {
    const probe = net.connect({ path })
    probe.once('connect', () => {
      probe.destroy()
      resolve(false)
    })
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'))
  })
  // Connecting to an ordinary file is refused too, and that file is not ours.
  if (refused && lstatSync(path).isSocket()) rmSync(path, { force: true })
}
