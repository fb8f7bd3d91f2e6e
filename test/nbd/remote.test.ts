import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import type { Device } from '../../src/device/device.ts'
import { Operation } from '../../src/device/request.ts'
import { heldRequestsMax } from '../../src/peer/held.ts'
import type { NbdOptions } from '../../src/nbd/remote.ts'
import { Proxy } from '../support/proxy.ts'
import { flush, read, submit, write } from '../support/io.ts'
import { GateDriver } from './gate.ts'
import { nbdLeaf } from './leaf.ts'
import { Rig } from './rig.ts'

/** What should not take long has the time that a busy machine needs; nothing waits for its end. */
const quick = { connectTimeout: 30_000, requestTimeout: 30_000, quiesce: 100 }

/** Resolves when the device says the word. */
function says(device: Device, word: string): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (device.state.word !== word) return
      device.unwatch(look)
      resolve()
    }
    device.watch(look)
    look()
  })
}

describe('an nbd leaf whose server goes away', () => {
  let rig: Rig
  let gate: GateDriver
  let proxy: Proxy
  let leaf: Device
  beforeEach(async () => {
    rig = new Rig()
    await rig.listen()
    gate = new GateDriver(8 * MiB)
    await rig.add('m', gate)
    proxy = await Proxy.start({ port: rig.tcp.kind === 'tcp' ? rig.tcp.port : 0 })
  })
  afterEach(async () => {
    gate.letThrough()
    await leaf.close()
    await proxy.close()
    await rig.close()
  })

  async function begin(options: Partial<NbdOptions> = {}): Promise<void> {
    const address = { kind: 'tcp', host: '127.0.0.1', port: proxy.port } as const
    leaf = nbdLeaf(address, 'm', { ...quick, ...options })
    await leaf.open()
  }

  const block = Buffer.alloc(4096, 7)

  /** Resolves when a write was carried out, also where some took longer than they may before. */
  async function written(): Promise<void> {
    for (;;) {
      await says(leaf, 'online')
      const { error } = await submit(leaf, Operation.write, 0, 4096, 0, [block])
      if (error === null) return
      expect(error.code).to.be.oneOf(['TIMEOUT', 'UNAVAILABLE'])
    }
  }

  it('sends reads again, fails writes as stale, and is another incarnation', async () => {
    await begin()
    await write(leaf, 0, block)
    await flush(leaf)
    const before = leaf.facts!
    gate.shut = true
    const reading = read(leaf, 0, 4096)
    const writing = submit(leaf, Operation.write, 4096, 4096, 0, [block])
    const flushing = submit(leaf, Operation.flush, 0, 0)
    await gate.waits(3)
    proxy.cut()
    expect((await writing).error?.code).to.equal('STALE')
    expect((await flushing).error?.code).to.equal('STALE')
    expect(leaf.state.word).to.equal('degraded')
    expect(leaf.state.reason).to.contain('reconnecting')
    gate.letThrough()
    expect((await reading).equals(block)).to.equal(true)
    expect(leaf.state.word).to.equal('online')
    expect(leaf.facts!.identity).to.equal(before.identity)
    expect(leaf.facts!.bootId).to.not.equal(before.bootId)
    await flush(leaf)
  })

  it('counts a loss when acknowledged writes were not flushed', async () => {
    await begin()
    await write(leaf, 0, block)
    proxy.cut()
    await says(leaf, 'degraded')
    await flush(leaf)
    expect(leaf.losses).to.equal(1)
    proxy.cut()
    await says(leaf, 'degraded')
    await flush(leaf)
    expect(leaf.losses).to.equal(1)
  })

  it('holds requests, fails them when that takes too long, and comes back', async () => {
    await begin({ hold: 200, requestTimeout: 400 })
    proxy.freeze()
    proxy.halfOpen()
    const held = submit(leaf, Operation.write, 0, 4096, 0, [block])
    expect((await held).error?.code).to.equal('TIMEOUT')
    expect(leaf.state.word).to.equal('degraded')
    const later = await submit(leaf, Operation.write, 0, 4096, 0, [block])
    expect(later.error?.code).to.equal('UNAVAILABLE')
    expect(leaf.state.word).to.equal('offline')
    const offline = await submit(leaf, Operation.read, 0, 4096)
    expect(offline.error?.code).to.equal('UNAVAILABLE')
    proxy.thaw()
    await written()
  })

  it('carries out after the reconnect what it held', async () => {
    await begin()
    proxy.cut()
    await says(leaf, 'degraded')
    const writes = Array.from({ length: 300 }, (_, at) => write(leaf, at * 4096, block))
    await Promise.all(writes)
    expect((await read(leaf, 299 * 4096, 4096)).equals(block)).to.equal(true)
  })

  it('bounds what it holds for a server that is away, not what waits for a slow one', async () => {
    await begin({ hold: 500 })
    const count = heldRequestsMax + 100
    const codes = async (): Promise<Set<string>> => {
      const reads = Array.from({ length: count }, () => submit(leaf, Operation.read, 0, 512))
      gate.letThrough()
      return new Set((await Promise.all(reads)).map(({ error }) => error?.code ?? 'none'))
    }
    gate.shut = true
    expect([...(await codes())]).to.deep.equal(['none'])
    proxy.freeze()
    proxy.cut()
    await says(leaf, 'degraded')
    expect([...(await codes())].sort()).to.deep.equal(['BUSY', 'UNAVAILABLE'])
  })

  it('does not wait before it writes again where the server was seen to close', async () => {
    await begin({ quiesce: 600_000 })
    proxy.cut()
    await says(leaf, 'degraded')
    await write(leaf, 0, block)
  })

  it('waits before it writes again where nobody knows whether the server closed', async () => {
    await begin({ quiesce: 600, requestTimeout: 200 })
    proxy.halfOpen()
    const started = performance.now()
    const lost = await submit(leaf, Operation.write, 0, 4096, 0, [block])
    expect(lost.error?.code).to.equal('TIMEOUT')
    await written()
    expect(performance.now() - started).to.be.above(750)
  })

  it('waits as well where the connection was closed before a write was answered', async () => {
    await begin({ quiesce: 600 })
    gate.shut = true
    const writing = submit(leaf, Operation.write, 0, 4096, 0, [Buffer.alloc(4096, 1)])
    await gate.waits(1)
    const started = performance.now()
    proxy.cut()
    expect((await writing).error?.code).to.equal('STALE')
    const later = write(leaf, 0, block)
    gate.letThrough()
    await later
    expect(performance.now() - started).to.be.above(590)
  })

  it('is opening while the server never was there, and online when it comes', async () => {
    await rig.close()
    await begin()
    expect(leaf.state.word).to.equal('opening')
    expect((await submit(leaf, Operation.read, 0, 512)).error?.code).to.equal('UNAVAILABLE')
  })

  it('refuses an export of another size than it was told', async () => {
    await begin({ size: MiB })
    expect(leaf.state.word).to.equal('opening')
    expect(leaf.state.reason).to.contain('not 1048576')
  })

  it('learns of an export that is not there', async () => {
    await begin({ name: 'nowhere' })
    expect(leaf.state.reason).to.contain('no such export')
  })

  it('comes back with all of its connections', async () => {
    // Longer than the test may take: all are seen to be closed.
    await begin({ connections: 4, quiesce: 600_000 })
    const reads = (): Promise<Buffer>[] =>
      Array.from({ length: 200 }, (_, at) => read(leaf, at * 4096, 4096))
    for (let round = 0; round < 3; round++) {
      // Each is used once the first one has answered since it came.
      const all = (): boolean => {
        const { connections, joining } = leaf.driver.describe()
        return connections === 4 && joining === 0
      }
      while (!all()) await read(leaf, 0, 4096)
      await Promise.all(reads())
      gate.shut = true
      const waiting = reads()
      await gate.waits(200)
      expect(leaf.driver.describe()).to.include({ connections: 4, inFlight: 200 })
      proxy.cut()
      await says(leaf, 'degraded')
      gate.letThrough()
      for (const bytes of await Promise.all(waiting)) expect(bytes.length).to.equal(4096)
    }
    expect(leaf.driver.describe()).to.include({ reconnects: 3, held: 0 })
  })

  it('closes while it is away', async () => {
    await begin({ requestTimeout: 400 })
    proxy.freeze()
    proxy.halfOpen()
    const held = submit(leaf, Operation.read, 0, 512)
    const closed = leaf.close()
    await held
    await closed
  })
})
