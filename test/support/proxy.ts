import net from 'node:net'
import { once } from 'node:events'
import type { Destination } from './ports.ts'

/** What a chunk waits for, and the socket it goes to. */
interface Held {
  readonly to: net.Socket
  readonly chunk: Buffer
}

interface Pair {
  readonly client: net.Socket
  readonly server: net.Socket
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
  private readonly held: Held[] = []
  private frozen = false

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

  /** Both sides are reset. */
  cut(): void {
    for (const pair of [...this.pairs]) {
      this.pairs.delete(pair)
      pair.client.resetAndDestroy()
      pair.server.resetAndDestroy()
    }
  }

  /** Nothing passes, new connections' bytes neither, until `thaw`; then everything does. */
  freeze(): void {
    this.frozen = true
  }

  thaw(): void {
    this.frozen = false
    for (const { to, chunk } of this.held.splice(0)) if (!to.destroyed) to.write(chunk)
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
   * The client's side is reset, the server's stays: what was frozen on its way reaches the server
   * with the next `thaw`, late.
   */
  strand(): void {
    for (const pair of [...this.pairs]) {
      this.pairs.delete(pair)
      this.orphans.add(pair.server)
      pair.server.removeAllListeners('data').resume()
      pair.client.resetAndDestroy()
    }
  }

  async close(): Promise<void> {
    this.server.close()
    this.cut()
    for (const socket of this.orphans) socket.destroy()
    await once(this.server, 'close')
  }

  private join(client: net.Socket, server: net.Socket): void {
    const pair = { client, server }
    this.pairs.add(pair)
    const over = (): void => {
      if (!this.pairs.delete(pair)) return
      client.destroy()
      server.destroy()
    }
    this.pass(client, server)
    this.pass(server, client)
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

  private pass(from: net.Socket, to: net.Socket): void {
    from.on('data', (chunk: Buffer) => {
      if (this.frozen) this.held.push({ to, chunk })
      else if (!to.write(chunk)) {
        from.pause()
        to.once('drain', () => from.resume())
      }
    })
  }
}
