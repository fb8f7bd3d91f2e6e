import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { Device, type Driver, type DriverHost } from '../../src/device/device.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import type { Completer, Request } from '../../src/device/request.ts'
import type { Connection, Network } from '../../src/net/network.ts'
import { SocketNetwork } from '../../src/net/sockets.ts'
import { read, write } from '../support/io.ts'
import { clientContext, remote, Target } from './rig.ts'
import { SeededRandom } from '../support/seeded.ts'

/** Remembers the buffers that were handed to sockets. */
class TappedNetwork implements Network {
  readonly sent = new Set<Buffer>()
  private readonly inner = new SocketNetwork('landing')

  connect: Network['connect'] = (address, timeout, attach, failed) =>
    this.inner.connect(address, timeout, (connection) => attach(this.tap(connection)), failed)

  listen: Network['listen'] = (address, accept) =>
    this.inner.listen(address, (connection) => accept(this.tap(connection)))

  private tap(connection: Connection): Connection {
    const { sent } = this
    return {
      peer: connection.peer,
      identity: connection.identity,
      batchBytes: connection.batchBytes,
      send: (buffers) => {
        for (const buffer of buffers) sent.add(buffer)
        connection.send(buffers)
      },
      pause: () => connection.pause(),
      resume: () => connection.resume(),
      end: () => connection.end(),
      destroy: () => connection.destroy(),
    }
  }
}

/** Remembers the segments that pass between a server and the remote leaf below it. */
class TapDriver implements Driver, Completer {
  readonly type = 'tap'
  readonly children = []
  readonly segments: Buffer[] = []
  private readonly inner: Driver

  constructor(inner: Driver) {
    this.inner = inner
  }

  open(host: DriverHost): Promise<void> {
    return this.inner.open(host)
  }

  close(): Promise<void> {
    return this.inner.close()
  }

  describe(): Record<string, unknown> {
    return {}
  }

  submit(request: Request): void {
    this.segments.push(...request.segments)
    request.push(this)
    this.inner.submit(request)
  }

  completed(request: Request): void {
    this.segments.push(...request.segments)
    request.complete()
  }
}

describe('a bridge', () => {
  it('hands large payloads on without copying them, both ways', async () => {
    const far = new Target()
    await far.add('disk', new MemoryDriver(16 * MiB, new SeededRandom(1)))
    await far.start()
    const network = new TappedNetwork()
    const tap = new TapDriver(remote(far.tcp, 'disk', {}, { ...clientContext(), network }).driver)
    const near = new Target({ network })
    const device = new Device('bridged', tap, systemClock)
    await device.open()
    near.exports.set('disk', device)
    await near.start()
    const client = remote(near.tcp, 'disk')
    await client.open()
    const data = new SeededRandom(2).bytes(MiB)
    await write(client, 12 * KiB, data)
    const written = tap.segments.splice(0).filter(({ length }) => length > 16 * KiB)
    expect((await read(client, 12 * KiB, MiB)).equals(data)).to.equal(true)
    const reads = tap.segments.splice(0).filter(({ length }) => length > 16 * KiB)
    for (const segments of [written, reads]) {
      expect(segments.length).to.be.greaterThan(0)
      for (const segment of segments) expect(network.sent.has(segment)).to.equal(true)
    }
    await client.close()
    await near.stop()
    await device.close()
    await far.stop()
  })
})
