import net from 'node:net'
import { once } from 'node:events'
import type { Destination } from './ports.ts'

/** What is held back: nothing, what clients say, or all. */
export type Frozen = 'nothing' | 'requests' | 'all'

/** A connection from the client and the one it leads to. */
class Pair {
  readonly client: net.Socket
  readonly server: net.Socket
  private frozen: Frozen
  private readonly held: { to: net.Socket; chunk: Buffer }[] = []

  constructor(client: net.Socket, server: net.Socket, frozen: Frozen) {
    this.client = client
    this.server = server
    this.frozen = frozen
    this.pass(client, server)
    this.pass(server, client)
  }

  get holding(): boolean {
    return this.held.length > 0
  }

  freeze(what: Frozen): void {
    this.frozen = what
  }

  thaw(): void {
    this.frozen = 'nothing'
    for (const { to, chunk } of this.held.splice(0)) if (!to.destroyed) to.write(chunk)
  }

  private pass(from: net.Socket, to: net.Socket): void {
    from.on('data', (chunk: Buffer) => {
      const held = from === this.client ? this.frozen !== 'nothing' : this.frozen === 'all'
      if (held) this.held.push({ to, chunk })
      else if (!to.write(chunk)) {
        from.pause()
        to.once('drain', () => from.resume())
      }
    })
  }
}

/**
 * A TCP proxy that does to its connections what networks do: cuts, stalls, and the two cruel ones,
 * a side that is gone without a word, and bytes that arrive long after their sender gave up.
 */
export class Proxy {
  /** Of 127.0.0.1. */
  readonly port: number
  private readonly server: net.Server
  private readonly pairs = new Set<Pair>()
  private readonly orphans = new Set<net.Socket>()
  private readonly stranded = new Set<Pair>()
  private frozen: Frozen = 'nothing'

  private constructor(server: net.Server) {
    this.server = server
    this.port = (server.address() as net.AddressInfo).port
  }

  static async start(to: Destination): Promise<Proxy> {
    const server = net.createServer({ noDelay: true, allowHalfOpen: true })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const proxy = new Proxy(server)
    server.on('connection', (client) => {
      proxy.join(client, net.connect({ port: to.port, host: '127.0.0.1', noDelay: true }))
    })
    return proxy
  }

  /** Connections that are forwarded. */
  get connections(): number {
    return this.pairs.size
  }

  /** Whether anything is held back. */
  get holding(): boolean {
    return [...this.pairs].some((pair) => pair.holding)
  }

  /** Both sides are reset. */
  cut(): void {
    for (const pair of [...this.pairs]) {
      this.pairs.delete(pair)
      pair.client.resetAndDestroy()
      pair.server.resetAndDestroy()
    }
  }

  /** Nothing passes, new connections' bytes neither, until `thaw`; then everything does. */
  freeze(what: Frozen = 'all'): void {
    this.frozen = what
    for (const pair of this.pairs) pair.freeze(what)
  }

  thaw(): void {
    this.frozen = 'nothing'
    for (const pair of this.pairs) pair.thaw()
  }

  /** The server's side is gone as after a loss of power: the client is told nothing, ever. */
  halfOpen(): void {
    for (const pair of [...this.pairs]) {
      this.pairs.delete(pair)
      this.orphans.add(pair.client)
      pair.client.removeAllListeners('data').resume()
      pair.server.resetAndDestroy()
    }
  }

  /**
   * The client's side is reset, the server's stays. What was frozen on its way reaches the server
   * late, with `deliver`; new connections pass meanwhile.
   */
  strand(): void {
    for (const pair of [...this.pairs]) {
      this.pairs.delete(pair)
      this.stranded.add(pair)
      this.orphans.add(pair.server)
      pair.client.resetAndDestroy()
    }
    this.frozen = 'nothing'
  }

  /** What was stranded arrives, and its senders' sides close. */
  deliver(): void {
    for (const pair of this.stranded) {
      pair.thaw()
      pair.server.end()
    }
    this.stranded.clear()
  }

  async close(): Promise<void> {
    this.server.close()
    this.cut()
    for (const socket of this.orphans) socket.destroy()
    await once(this.server, 'close')
  }

  private join(client: net.Socket, server: net.Socket): void {
    const pair = new Pair(client, server, this.frozen)
    this.pairs.add(pair)
    const over = (): void => {
      if (!this.pairs.delete(pair)) return
      client.destroy()
      server.destroy()
    }
    for (const socket of [client, server]) {
      socket.on('error', over)
      socket.on('end', () => {
        if (this.orphans.has(socket)) socket.destroy()
        over()
      })
      socket.on('close', () => {
        this.orphans.delete(socket)
        over()
      })
    }
  }
}
