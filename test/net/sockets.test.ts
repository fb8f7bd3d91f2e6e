import { expect } from 'chai'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { KiB, MiB } from '../../src/base/size.ts'
import { Slab } from '../../src/base/slab.ts'
import type { StorageError } from '../../src/base/errors.ts'
import type { Address } from '../../src/net/address.ts'
import type { Connection, ConnectionHandler, Listener } from '../../src/net/network.ts'
import { SocketNetwork, type Receive } from '../../src/net/sockets.ts'
import { Act, EchoHandler, frame } from '../support/framing.ts'
import { SeededRandom } from '../support/seeded.ts'

const random = new SeededRandom(7)

/** A plain socket of Node, so that nothing under test is on both ends. */
async function dial(address: Address): Promise<net.Socket> {
  const socket = net.connect(
    address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port },
  )
  await once(socket, 'connect')
  return socket
}

async function collect(socket: net.Socket, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  while (length < bytes) {
    const [chunk] = (await once(socket, 'data')) as [Buffer]
    chunks.push(chunk)
    length += chunk.length
  }
  return Buffer.concat(chunks)
}

for (const receive of ['landing', 'events'] satisfies Receive[])
  for (const kind of ['tcp', 'unix'] as const)
    describe(`sockets: ${receive} over ${kind}`, () => {
      const slab = new Slab()
      const network = new SocketNetwork(receive)
      const handlers: EchoHandler[] = []
      let folder: string
      let listener: Listener

      before(async () => {
        folder = mkdtempSync(path.join(tmpdir(), 'dst-net-'))
        const address: Address =
          kind === 'tcp'
            ? { kind, host: '127.0.0.1', port: 0 }
            : { kind, path: path.join(folder, 'echo.sock') }
        listener = await network.listen(address, (connection) => {
          const handler = new EchoHandler(connection, slab)
          handlers.push(handler)
          return handler
        })
      })

      after(async () => {
        await listener.close()
        rmSync(folder, { recursive: true })
      })

      afterEach(async () => {
        for (const handler of handlers)
          if (handler.closedWith === undefined)
            await new Promise<void>((resolve) => {
              handler.onClosed = resolve
              handler.connection.destroy()
            })
        handlers.length = 0
        expect(slab.bytesHeld, 'every block was given back').to.equal(0)
      })

      it('echoes frames of every size, whatever lands together', async () => {
        const socket = await dial(listener.address)
        const lengths = [0, 1, 7, 4095, 16_384, 16_385, 65_536, 300_000, 5_000_000, 3, 0, 100]
        const frames = lengths.map((length) => frame(Act.echo, random.bytes(length)))
        const sent = Buffer.concat(frames)
        socket.write(sent)
        expect((await collect(socket, sent.length)).equals(sent)).to.equal(true)
        socket.destroy()
      })

      it('takes bytes one at a time', async () => {
        const socket = await dial(listener.address)
        socket.setNoDelay(true)
        const sent = Buffer.concat([1, 0, 40].map((n) => frame(Act.echo, random.bytes(n))))
        const back = collect(socket, sent.length)
        for (const byte of sent) await new Promise((next) => socket.write(Buffer.of(byte), next))
        expect((await back).equals(sent)).to.equal(true)
        socket.destroy()
      })

      it('skips payloads and goes on right behind them', async () => {
        const socket = await dial(listener.address)
        const last = frame(Act.echo, Buffer.from('after'))
        for (const length of [10, 20_000, 700_000, 0])
          socket.write(frame(Act.skip, random.bytes(length)))
        socket.write(last)
        expect((await collect(socket, last.length)).equals(last)).to.equal(true)
        socket.destroy()
      })

      it('loses nothing that arrives while it is stalled', async () => {
        const socket = await dial(listener.address)
        const parts: Buffer[] = []
        for (let n = 0; n < 12; n++) {
          parts.push(frame(n % 3 === 0 ? Act.stall : Act.echo, random.bytes(n * 9_000)))
          parts.push(frame(Act.echo, random.bytes(n)))
        }
        const sent = Buffer.concat(parts)
        const back = collect(socket, sent.length)
        for (let at = 0; at < sent.length; at += 7_001) {
          socket.write(sent.subarray(at, at + 7_001))
          await new Promise((next) => setImmediate(next))
        }
        expect((await back).equals(sent)).to.equal(true)
        socket.destroy()
      })

      it('survives a peer that closes in the middle of a header and of a payload', async () => {
        for (const cut of [3, 8, 12, 100_000]) {
          const socket = await dial(listener.address)
          socket.write(frame(Act.echo, Buffer.alloc(1_000_000)).subarray(0, cut), () =>
            socket.end(),
          )
          await once(socket.resume(), 'close')
        }
        const resets = await dial(listener.address)
        resets.write(frame(Act.echo, Buffer.alloc(1000)).subarray(0, 500), () =>
          kind === 'tcp' ? resets.resetAndDestroy() : resets.destroy(),
        )
        await once(resets, 'close')
        expect(handlers).to.have.length(5)
      })

      it('delivers its last words before it ends, though the peer talks on', async () => {
        const socket = await dial(listener.address)
        const sent = frame(Act.echo, random.bytes(2_000_000))
        const back = collect(socket, sent.length)
        socket.write(sent)
        socket.write(frame(Act.end, Buffer.alloc(0)))
        socket.write(Buffer.alloc(300_000))
        expect((await back).equals(sent)).to.equal(true)
        await once(socket, 'end')
        socket.destroy()
      })

      it('tells of every send once, never within it, and of none after the end', async () => {
        const server = net.createServer({ pauseOnConnect: true })
        const where = kind === 'tcp' ? { port: 0, host: '127.0.0.1' } : { path: `${folder}/s` }
        server.listen(where)
        await once(server, 'listening')
        const accepted = once(server, 'connection') as Promise<[net.Socket]>
        const bound = server.address()
        const address: Address =
          typeof bound === 'string'
            ? { kind: 'unix', path: bound }
            : { kind: 'tcp', host: '127.0.0.1', port: bound!.port }
        const sender = await new Promise<Sender>((resolve, reject) => {
          const attach = (connection: Connection): Sender => {
            const made = new Sender(connection)
            resolve(made)
            return made
          }
          network.connect(address, 5000, attach, reject)
        })
        const [peer] = await accepted
        const small = random.bytes(10)
        const large = random.bytes(8_000_000)
        // The second does not fit what the kernel takes, so what follows has to wait behind it.
        for (const buffers of [[small], [small, large, small], [small, small], [large]])
          sender.send(buffers)
        const all = Buffer.concat([small, small, large, small, small, small, large])
        const got = collect(peer, all.length)
        peer.resume()
        expect((await got).equals(all)).to.equal(true)
        while (sender.told < 4) await new Promise((next) => setImmediate(next))
        // One that goes on as soon as it is told does not keep the loop from others.
        sender.more = 200
        sender.send([small])
        let turns = 0
        for (; sender.told < 205; turns++) await new Promise((next) => setImmediate(next))
        expect(turns).to.be.above(100)
        for (let n = 0; n < 3; n++) sender.send([large])
        expect(sender.told).to.equal(205)
        peer.destroy()
        await sender.over
        expect(sender.told, 'none of what did not arrive').to.be.below(208)
        sender.send([small])
        await new Promise((next) => setImmediate(next))
        expect(sender.told).to.be.below(208)
        server.close()
      })

      it('tells of sends that wait as each has left, and ends behind the last', async () => {
        const where: Address =
          kind === 'tcp' ? { kind, host: '127.0.0.1', port: 0 } : { kind, path: `${folder}/slow` }
        let accepted: (sender: Sender) => void
        const accepting = new Promise<Sender>((resolve) => (accepted = resolve))
        const server = await network.listen(where, (connection) => {
          const made = new Sender(connection)
          accepted(made)
          return made
        })
        const socket = await dial(server.address)
        const sender = await accepting
        const [small, large] = [random.bytes(10), random.bytes(4 * MiB)]
        const one = Buffer.concat([small, large])
        for (let n = 0; n < 16; n++) sender.send([small, large])
        const first = await collect(socket, 8 * one.length)
        socket.pause()
        while (sender.told < 6) await new Promise((next) => setTimeout(next, 10))
        sender.finish()
        const ended = once(socket, 'end')
        const rest = collect(socket, 16 * one.length - first.length)
        socket.resume()
        const all = Buffer.concat([first, await rest])
        for (let n = 0; n < 16; n++)
          expect(all.compare(one, 0, one.length, n * one.length, (n + 1) * one.length)).to.equal(0)
        await ended
        await server.close()
      })

      // Nobody but the kernel says how much that of TCP holds.
      if (kind === 'unix')
        it('takes next to nothing in while it is paused', async () => {
          const where: Address = { kind, path: path.join(folder, 'paused.sock') }
          const server = await network.listen(where, (connection) => {
            connection.pause()
            return new Sender(connection)
          })
          const socket = await dial(where)
          let taken = 0
          const pour = (): void => {
            socket.write(Buffer.alloc(16 * KiB), (error) => {
              if (error !== undefined && error !== null) return
              taken += 16 * KiB
              pour()
            })
          }
          pour()
          for (let before = -1; before < taken;) {
            before = taken
            await new Promise((next) => setTimeout(next, 50))
          }
          expect(taken).to.be.below(512 * KiB)
          socket.destroy()
          await server.close()
        })

      it('connects to what it listens on', async () => {
        const done = new Promise<Buffer>((resolve, reject) => {
          network.connect(
            listener.address,
            5000,
            (connection) => new Collector(connection, frame(Act.echo, Buffer.from('hi')), resolve),
            reject,
          )
        })
        expect((await done).subarray(8).toString()).to.equal('hi')
      })
    })

/** Sends, and counts what it is told of that. */
class Sender implements ConnectionHandler {
  told = 0
  /** So many more times it sends when it is told. */
  more = 0
  readonly over: Promise<void>
  private readonly connection: Connection
  private readonly nowhere = Buffer.alloc(64)
  private sending = false
  private end: () => void = () => undefined
  private ended = false

  constructor(connection: Connection) {
    this.connection = connection
    this.over = new Promise((resolve) => (this.end = resolve))
  }

  send(buffers: Buffer[]): void {
    this.sending = true
    this.connection.send(buffers)
    this.sending = false
    // The array may be used again at once.
    buffers.length = 0
  }

  finish(): void {
    this.connection.end()
  }

  landing(): Buffer {
    return this.nowhere
  }

  landed(): void {}

  sent(): void {
    expect(this.sending, 'within `send`').to.equal(false)
    expect(this.ended, 'after the end').to.equal(false)
    this.told++
    if (this.more-- > 0) this.send([Buffer.alloc(10)])
  }

  closed(): void {
    this.ended = true
    this.end()
  }
}

/** Sends a frame, collects as many bytes as it sent, closes. */
class Collector implements ConnectionHandler {
  private readonly connection: Connection
  private readonly place: Buffer
  private readonly done: (bytes: Buffer) => void
  private at = 0

  constructor(connection: Connection, bytes: Buffer, done: (bytes: Buffer) => void) {
    this.connection = connection
    this.place = Buffer.alloc(bytes.length)
    this.done = done
    connection.send([bytes])
  }

  landing(): Buffer {
    return this.at < this.place.length ? this.place.subarray(this.at) : Buffer.alloc(1)
  }

  landed(bytes: number): void {
    this.at += bytes
    if (this.at === this.place.length) this.connection.destroy()
  }

  sent(): void {}

  closed(): void {
    this.done(this.place)
  }
}

describe('connecting and listening', () => {
  const network = new SocketNetwork()
  const connect = (address: Address, timeout = 5000): Promise<StorageError> =>
    new Promise((resolve, reject) => {
      network.connect(
        address,
        timeout,
        (connection) => {
          connection.destroy()
          reject(new Error('connected'))
          return { landing: () => Buffer.alloc(1), landed() {}, sent() {}, closed() {} }
        },
        resolve,
      )
    })

  it('reports a refused connection', async () => {
    const listener = await network.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 }, () => null)
    await listener.close()
    expect((await connect(listener.address)).code).to.equal('UNAVAILABLE')
    expect((await connect({ kind: 'unix', path: '/nonexistent/x.sock' })).code).to.equal(
      'UNAVAILABLE',
    )
  })

  it('gives up after the timeout', async () => {
    // A stopped process accepts nothing: once its backlog is full, nobody answers a newcomer.
    const script =
      "const s = require('net').createServer();" +
      " s.listen({ port: 0, host: '127.0.0.1', backlog: 1 }," +
      ' () => process.stdout.write(String(s.address().port)))'
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [port] = (await once(child.stdout, 'data')) as [Buffer]
    child.kill('SIGSTOP')
    const address = { kind: 'tcp' as const, host: '127.0.0.1', port: Number(port) }
    const fillers = [0, 1, 2, 3].map(() => net.connect(address).on('error', () => undefined))
    await once(fillers[0]!, 'connect')
    const error = await connect(address, 200)
    expect(error.code).to.equal('TIMEOUT')
    for (const filler of fillers) filler.destroy()
    child.kill('SIGKILL')
    await once(child, 'exit')
  })

  it('calls nobody after it was given up', async () => {
    const listener = await network.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 }, () => null)
    let called = false
    const giveUp = network.connect(
      listener.address,
      1000,
      () => {
        called = true
        throw new Error('attached')
      },
      () => (called = true),
    )
    giveUp()
    giveUp()
    const probe = await dial(listener.address)
    await once(probe.resume(), 'close')
    expect(called).to.equal(false)
    await listener.close()
  })

  it('refuses an address in use and a host that is not ours', async () => {
    const listener = await network.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 }, () => null)
    for (const address of [
      listener.address,
      { kind: 'tcp', host: '192.0.2.1', port: 0 } satisfies Address,
    ]) {
      const error = await network.listen(address, () => null).catch((e: unknown) => e)
      expect((error as StorageError).code).to.equal('CONFIG')
    }
    await listener.close()
  })

  it('replaces a dead socket, but neither a living one nor a file', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'dst-net-'))
    const file = path.join(folder, 'precious')
    writeFileSync(file, 'data')
    const refused = await network
      .listen({ kind: 'unix', path: file }, () => null)
      .then(
        () => null,
        (error: unknown) => error as StorageError,
      )
    expect(refused?.code).to.equal('CONFIG')
    expect(existsSync(file)).to.equal(true)
    const address: Address = { kind: 'unix', path: path.join(folder, 'x.sock') }
    const living = await network.listen(address, () => null)
    const second = await network.listen(address, () => null).catch((e: unknown) => e)
    expect((second as StorageError).code).to.equal('CONFIG')
    await living.close()
    rmSync(folder, { recursive: true })
  })
})
