import net from 'node:net'
import { assert, StorageError, type Code } from '../base/errors.ts'
import { Ring } from '../base/ring.ts'
import { KiB, MiB } from '../base/size.ts'
import { originOf, type Address } from './address.ts'
import { local, proven, remoteAt, type Identity } from './identity.ts'
import type { Connection, ConnectionHandler } from './network.ts'
import { landingOver } from './tls/landing.ts'
import { refused, type Secured, type TlsSide } from './tls/side.ts'
import { QueuedWriter, queuedWriterOf, writerOf, type Writer } from './writer.ts'

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
 * is made. A TCP socket holds megabytes, and smaller batches keep it from growing that far. Under
 * TLS so many bytes are sealed in one go.
 */
const batchBytes = { unix: 256 * KiB, tcp: 2 * MiB, tls: 256 * KiB } as const

/** Milliseconds that an ended connection waits for its peer to read the last bytes and close. */
const lingerTimeoutMs = 2000

/**
 * Where the first byte of a connection lands: sockets ask before there is a handler. One for all,
 * because the byte is copied out before anything else happens.
 */
const threshold = Buffer.alloc(1)
/** Where bytes land that are not used. */
const discard = Buffer.alloc(64 * KiB)

/** The way of a connection to TLS; `behind` sends that wait are still in clear. */
interface Upgrade {
  readonly side: TlsSide
  readonly secured: () => void
  behind: number
  /** Whether the handshake was begun, or waits for its turn. */
  begun: boolean
  /** Ends the turn of this handshake. */
  over: () => void
}

/** Somebody on the way may have put them there, to be taken for what comes under TLS. */
const inClear = refused('bytes came in clear, before the handshake')

/** A socket of the operating system, TCP or unix, later perhaps under TLS. */
export class SocketConnection implements Connection {
  readonly peer: string
  identity: Identity = local
  origin: string | undefined
  descriptor: number | undefined
  batchBytes: number
  /** Set right after construction; `onread` has to exist before the socket. Under TLS another. */
  socket!: net.Socket
  /** For the socket's constructor: lands bytes where the handler wants them. */
  readonly onread: { buffer: () => Buffer; callback: (bytes: number, buffer: Buffer) => boolean }
  /** True on the side that connected. */
  dialed = false
  private receive: Receive = 'events'
  private writer: Writer | QueuedWriter | null = null
  /** How many writes past the stream wait for the kernel. */
  private writing = 0
  /** The way to TLS, from `startTls` until the handshake is done; then the socket below it. */
  private upgrade: Upgrade | null = null
  private below: net.Socket | null = null
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
  private closed = false
  private destroyed = false
  private lingering: NodeJS.Timeout | undefined
  private problem: StorageError | null = null

  constructor(peer: string, kind: Address['kind']) {
    this.peer = peer
    this.batchBytes = batchBytes[kind]
    this.onread = {
      buffer: () => {
        if (this.handler === null) return threshold
        return this.ended || this.gone ? discard : this.handler.landing()
      },
      callback: (bytes, buffer) => {
        // What was decrypted together is delivered to its end, also after `destroy`.
        if (this.ended || this.gone) return !this.paused
        if (this.upgrade !== null) return this.fail(inClear)
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
    this.receive = receive
    if (receive === 'landing') this.writer = writerOf(socket, this.wrote)
    socket.on('close', () => {
      clearTimeout(this.lingering)
      this.taken = 0
      this.closed = true
      // Above a socket that was destroyed there may be one of TLS.
      this.socket.destroy()
      handler.closed(this.problem)
    })
    this.listenTo(socket)
    if (this.upgrade !== null) this.beginTls(this.upgrade)
    else if (this.paused) socket.pause()
    else socket.resume()
  }

  private listenTo(socket: net.Socket): void {
    socket.on('error', (error) => {
      // What fails because it was closed on this side is no news.
      if (!this.destroyed)
        this.problem ??= problemOf('UNAVAILABLE', `connection to ${this.peer}`, error)
    })
    // The peer sends no more: there are no half-closed conversations in our protocols.
    socket.on('end', () => socket.destroy())
    // Silent on a socket that lands bytes by itself.
    socket.on('data', (chunk) => this.copyIn(chunk))
  }

  send(buffers: readonly Buffer[]): void {
    if (this.gone || this.ended) return
    if (this.upgrade !== null || (this.writer === null && this.flowing))
      this.waiting.push([...buffers])
    else if (this.writer === null) this.give(buffers)
    else if (!this.writer.write(buffers)) this.writing++
    else if (this.taken++ === 0 && !this.delivering && !this.telling) process.nextTick(this.tell)
  }

  startTls(side: TlsSide, secured: () => void): void {
    assert(this.upgrade === null && this.below === null, 'TLS begins once')
    // What waits now was sent in clear, and what is sent from now on waits behind it.
    const behind = this.waiting.length
    this.upgrade = { side, secured, behind, begun: false, over: () => undefined }
    if (this.handler === null) return
    this.socket.pause()
    if (this.isSent(this.upgrade)) this.beginTls(this.upgrade)
  }

  /** Whether all that was sent before TLS has left. */
  private isSent({ behind }: Upgrade): boolean {
    return this.writing === 0 && !this.flowing && behind === 0
  }

  /** Begins TLS when it is this peer's turn; until then its bytes stay in the socket. */
  private beginTls(upgrade: Upgrade): void {
    const { turns } = upgrade.side
    upgrade.begun = true
    if (turns == null) this.handshake(upgrade)
    else {
      const leave = turns.enter(this.origin, () => {
        // After this call has returned, for its way out has to be known.
        process.nextTick(() => {
          if (!this.gone) this.handshake(upgrade)
        })
      })
      upgrade.over = leave
      this.socket.once('close', leave)
    }
  }

  private handshake(upgrade: Upgrade): void {
    const below = this.socket
    this.below = below
    below.removeAllListeners('error').removeAllListeners('end').removeAllListeners('data')
    // Whatever happens to it, the socket above tells.
    below.on('error', () => undefined)
    const done = (result: Secured | StorageError): void => {
      upgrade.over()
      if (this.upgrade !== upgrade) return
      // The socket may have closed itself, and then it is said here why.
      if (result instanceof StorageError) this.fail(result)
      else if (!this.gone) this.secured(result, upgrade)
    }
    try {
      this.socket = upgrade.side.begin(below, done, (reason) => this.fail(reason))
      this.socket.on('error', () => undefined)
    } catch (error) {
      if (!(error instanceof StorageError)) throw error
      this.fail(error)
    }
  }

  private secured({ socket: above, proof }: Secured, { secured }: Upgrade): void {
    const landing = this.receive === 'landing'
    this.identity = proven(this.identity, proof)
    this.batchBytes = batchBytes.tls
    this.upgrade = null
    const socket = landing ? landingOver(above, this.onread, highWaterMark) : above
    this.socket = socket
    this.listenTo(socket)
    this.writer = landing ? queuedWriterOf(socket, this.wrote) : null
    for (let left = this.waiting.length; left > 0; left--) this.send(this.waiting.shift()!)
    secured()
    if (this.paused) socket.pause()
    else socket.resume()
  }

  /** Closes at once, because of what the peer did. */
  private fail(reason: StorageError): false {
    this.problem ??= reason
    this.destroy()
    return false
  }

  /** True once no byte lands or leaves any more. */
  private get gone(): boolean {
    return this.socket.destroyed || this.below?.destroyed === true
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
    if (this.upgrade === null) this.socket.pause()
  }

  resume(): void {
    this.paused = false
    if (this.upgrade === null && !this.gone) this.socket.resume()
  }

  end(): void {
    if (this.ended || this.gone) return
    // There is nothing to say before a handshake is done.
    if (this.upgrade !== null) {
      this.destroy()
      return
    }
    this.ended = true
    while (this.waiting.length > 0) this.giveNext()
    if (this.writer instanceof QueuedWriter) this.writer.whenIdle(() => this.finish())
    else this.finish()
  }

  private finish(): void {
    const { socket } = this
    // Closing while bytes of the peer are unread would reset the connection, and the peer might
    // never see our last words. So what it still sends is dropped until it closes too.
    socket.end(() => {
      if (socket.destroyed) return
      this.lingering = setTimeout(() => socket.destroy(), lingerTimeoutMs)
      this.lingering.unref()
      this.resume()
    })
  }

  destroy(): void {
    this.destroyed = true
    // Under TLS the socket below it, which takes the other with it: later, because this may be
    // called from within TLS.
    const socket = this.below ?? this.socket
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
  private readonly wrote = (): void => {
    // Under TLS a write that the system took at once is reported a turn later.
    if (this.closed) return
    this.writing--
    this.goOnToTls()
    this.handler!.sent()
  }

  private goOnToTls(): void {
    const { upgrade } = this
    if (upgrade !== null && !upgrade.begun && this.isSent(upgrade)) this.beginTls(upgrade)
  }

  /** The stream is done with the send that it was given. */
  private readonly flowed = (error?: Error | null): void => {
    // `closed` lets go of everything at once. It follows a write that failed, and under TLS it may
    // come before the report of one that did not.
    if (this.closed || (error !== undefined && error !== null)) return
    this.flowing = false
    if (this.upgrade === null) this.giveNext()
    else if (this.upgrade.behind > 0) {
      this.upgrade.behind--
      this.giveNext()
    } else this.goOnToTls()
    if (this.taken++ === 0 && !this.delivering && !this.telling) setImmediate(this.tell)
  }

  private copyIn(chunk: Buffer): void {
    const handler = this.handler!
    for (let at = 0; at < chunk.length && !this.gone && !this.ended;) {
      if (this.upgrade !== null) {
        this.fail(inClear)
        return
      }
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
export function rewrap(accepted: net.Socket, connection: SocketConnection): net.Socket {
  const { _handle: handle } = accepted as unknown as { _handle?: { useUserBuffer?: unknown } }
  if (typeof handle?.useUserBuffer !== 'function') return accepted
  return new net.Socket({
    handle,
    highWaterMark,
    onread: connection.onread,
  } as unknown as net.SocketConstructorOpts)
}

/** An error of a socket, in our words. */
export function problemOf(code: Code, doing: string, error: Error): StorageError {
  return new StorageError(code, `${doing}: ${error.message}`, '', error)
}
