import { expect } from 'chai'
import type { StorageError } from '../../src/base/errors.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import type { Device } from '../../src/device/device.ts'
import { Operation } from '../../src/device/request.ts'
import { flush, read, submit, write } from '../support/io.ts'
import { Proxy } from '../support/proxy.ts'
import { GateDriver } from './gate.ts'
import { reaches, remote, Target } from './rig.ts'
import { SeededRandom } from '../support/seeded.ts'

const size = 4 * MiB
/** Short enough to wait for, long enough for a busy machine. */
const impatient = { pingInterval: 40, pingTimeout: 250, connectTimeout: 2000 }
const online = (device: Device): boolean => device.state.word === 'online'
const away = (device: Device): boolean => device.state.word !== 'online'
const fill = (byte: number, length = 4 * KiB): Buffer => Buffer.alloc(length, byte)

describe('a remote that is lost and found', () => {
  let target: Target
  let gate: GateDriver
  let proxy: Proxy
  let device: Device

  beforeEach(async () => {
    target = new Target()
    gate = new GateDriver(size)
    await target.add('disk', gate)
    await target.start()
    proxy = await Proxy.start({ port: target.port })
    device = remote({ kind: 'tcp', host: '127.0.0.1', port: proxy.port }, 'disk', impatient)
    await device.open()
  })

  afterEach(async () => {
    gate.openGate()
    await device.close()
    await proxy.close()
    await target.stop()
  })

  it('has an unanswered write carried out once, though it is sent twice', async () => {
    gate.shutGate()
    const writing = write(device, 0, fill(1))
    await gate.arrivals(1)
    proxy.cut()
    await reaches(device, away)
    expect(device.state.word).to.equal('degraded')
    gate.openGate()
    await writing
    expect(gate.written).to.deep.equal([0])
    expect((await read(device, 0, 4 * KiB)).equals(fill(1))).to.equal(true)
  })

  it('accepts no new session while an older one has a write under way', async () => {
    gate.shutGate()
    const first = write(device, 0, fill(1))
    await gate.arrivals(1)
    proxy.cut()
    await reaches(device, away)
    const second = write(device, 0, fill(2))
    // A client of its own gets through all the while: it is the session that waits, not the server.
    const other = remote(target.tcp, 'disk')
    await other.open()
    expect((await read(other, 0, 4 * KiB)).equals(fill(0))).to.equal(true)
    expect(device.state.word).to.equal('degraded')
    expect(gate.arrived).to.equal(1)
    gate.openGate()
    await Promise.all([first, second])
    expect(gate.written).to.deep.equal([0, 0])
    expect((await read(device, 0, 4 * KiB)).equals(fill(2))).to.equal(true)
    await other.close()
  })

  it('keeps a write that was stuck on its way from landing after a newer one', async () => {
    proxy.freeze()
    const first = write(device, 0, fill(1))
    await reaches(device, away)
    proxy.strand()
    await first
    await write(device, 0, fill(2))
    proxy.deliver()
    // The late bytes are behind us once the server has closed what they came on.
    await write(device, 4 * KiB, fill(3))
    expect((await read(device, 0, 4 * KiB)).equals(fill(2))).to.equal(true)
    expect(gate.written).to.deep.equal([0, 0, 4 * KiB])
  })

  it('notices a target that is gone without a word', async () => {
    proxy.halfOpen()
    await write(device, 0, fill(7))
    expect((await read(device, 0, 4 * KiB)).equals(fill(7))).to.equal(true)
  })

  it('goes on over a thawed connection as if nothing had been', async () => {
    proxy.freeze()
    const writing = write(device, 0, fill(7))
    proxy.thaw()
    await writing
  })

  it('loses nothing while its connections are cut again and again', async () => {
    const random = new SeededRandom(3)
    const model = Buffer.alloc(size)
    let done = false
    const cutting = (async () => {
      for (let cuts = 0; cuts < 12; cuts++) {
        await reaches(device, online)
        // Anywhere: also within headers and payloads.
        await new Promise((resolve) => setTimeout(resolve, random.below(25)))
        proxy.cut()
        await reaches(device, away)
      }
      done = true
    })()
    const lanes = Array.from({ length: 8 }, async (_, lane) => {
      const laneBytes = size / 8
      while (!done) {
        const length = 1 + random.below(random.fraction() < 0.2 ? laneBytes : 9000)
        const offset = lane * laneBytes + random.below(laneBytes - length + 1)
        const data = random.bytes(length)
        await write(device, offset, data)
        data.copy(model, offset)
        const same = (await read(device, offset, length)).equals(data)
        expect(same, `read ${offset}+${length}`).to.equal(true)
      }
    })
    await Promise.all([cutting, ...lanes])
    expect((await read(device, 0, size)).equals(model)).to.equal(true)
    expect(device.counters.lastError).to.equal(null)
  })

  it('carries on with a target that was killed and started again', async () => {
    await write(device, 0, fill(1))
    for (let kill = 0; kill < 3; kill++) {
      await target.kill()
      await reaches(device, away)
      const writing = write(device, 4 * KiB, fill(kill))
      await target.start()
      await writing
    }
    await flush(device)
    expect((await read(device, 0, 4 * KiB)).equals(fill(1))).to.equal(true)
  })

  it('says so when the target forgot what it had acknowledged', async () => {
    await write(device, 0, fill(1))
    await target.kill()
    await reaches(device, away)
    const reading = read(device, 0, 4 * KiB)
    const writing = submit(device, Operation.write, 0, 4 * KiB, 0, [fill(2)])
    gate.become({ bootId: 'b'.repeat(32) })
    await target.start()
    expect((await writing).error?.code).to.equal('STALE')
    expect((await reading).equals(fill(1))).to.equal(true)
    expect(device.facts!.bootId).to.equal('b'.repeat(32))
    await flush(device)
    expect(device.losses).to.equal(1)
  })

  it('does not call flushed writes forgotten', async () => {
    await write(device, 0, fill(1))
    await flush(device)
    gate.become({ bootId: 'b'.repeat(32) })
    await reaches(device, ({ facts }) => facts!.bootId === 'b'.repeat(32))
    expect(device.losses).to.equal(0)
  })

  it('refuses another device in the place of the first', async () => {
    const { identity } = device.facts!
    gate.become({ identity: 'c'.repeat(32) })
    await reaches(device, ({ state }) => state.word === 'degraded')
    const reading = submit(device, Operation.read, 0, 4 * KiB)
    await new Promise((resolve) => setTimeout(resolve, 150))
    gate.become({ identity })
    expect((await reading).error).to.equal(null)
    expect(device.facts!.identity).to.equal(identity)
  })

  it('learns that the device has grown, and that it is offline', async () => {
    gate.become({ size: 2 * size })
    await reaches(device, ({ facts }) => facts!.size === 2 * size)
    await write(device, size, fill(1))
    gate.goOffline()
    await reaches(device, ({ state }) => state.word === 'offline')
    gate.become({})
    await reaches(device, online)
  })

  it('asks for the stamp of the content', async () => {
    await write(device, 0, fill(1))
    expect(await device.driver.stamp!()).to.equal('after 1 writes')
  })
})

describe('a remote that stays away', () => {
  it('holds requests for as long as it is told, then fails them, then comes back', async () => {
    const target = new Target()
    await target.addMemory('disk', size)
    await target.start()
    const device = remote(target.tcp, 'disk', { ...impatient, hold: 300 })
    await device.open()
    await target.kill()
    await reaches(device, away)
    expect(device.state.word).to.equal('degraded')
    const outcome = await submit(device, Operation.read, 0, 4 * KiB)
    expect(outcome.error?.code).to.equal('UNAVAILABLE')
    expect(device.state.word).to.equal('offline')
    await target.start()
    await reaches(device, online)
    await write(device, 0, fill(1))
    await device.close()
    await target.stop()
  })

  it('fails requests at once when it is not to hold them', async () => {
    const target = new Target()
    const gate = new GateDriver(size)
    await target.add('disk', gate)
    await target.start()
    const device = remote(target.tcp, 'disk', { ...impatient, hold: 0 })
    await device.open()
    gate.shutGate()
    const writing = submit(device, Operation.write, 0, 4 * KiB, 0, [fill(1)])
    await gate.arrivals(1)
    const killed = target.kill()
    expect((await writing).error?.code).to.equal('UNAVAILABLE')
    gate.openGate()
    await killed
    await device.close()
    await target.stop()
  })

  it('does not stop the start, and is found when it comes', async () => {
    const target = new Target()
    await target.addMemory('disk', size)
    await target.start()
    await target.kill()
    const device = remote(target.tcp, 'disk', impatient)
    await device.open()
    expect(device.state.word).to.equal('opening')
    await target.start()
    await reaches(device, online)
    expect(device.facts!.size).to.equal(size)
    await device.close()
    await target.stop()
  })

  it('waits for an export that is not there yet', async () => {
    const target = new Target()
    await target.start()
    const device = remote(target.tcp, 'disk', impatient)
    await device.open()
    expect(device.state.reason).to.include('there is no export "disk"')
    await target.addMemory('disk', size)
    await reaches(device, online)
    await device.close()
    await target.stop()
  })

  it('is refused at the start when its size is not the one configured', async () => {
    const target = new Target()
    await target.addMemory('disk', size)
    await target.start()
    const device = remote(target.tcp, 'disk', { ...impatient, size: 2 * size })
    const problem = await device.open().then(
      () => null,
      (error: unknown) => error as { code: string },
    )
    expect(problem?.code).to.equal('CONFIG')
    await target.stop()
  })

  it('gives up a session that leaves a request unanswered for too long', async () => {
    const target = new Target()
    const gate = new GateDriver(size)
    await target.add('disk', gate)
    await target.start()
    const device = remote(target.tcp, 'disk', { ...impatient, requestTimeout: 100 })
    await device.open()
    gate.shutGate()
    const writing = write(device, 0, fill(1))
    await reaches(device, away)
    expect(device.state.reason).to.include('no answer within 100 ms')
    gate.openGate()
    await writing
    expect(gate.written).to.deep.equal([0])
    await device.close()
    await target.stop()
  })

  it('gives up a session that leaves a question unanswered for too long', async () => {
    const target = new Target()
    const gate = new GateDriver(size)
    let asked = 0
    gate.stamp = () => (asked++ === 0 ? new Promise(() => undefined) : Promise.resolve('it'))
    await target.add('disk', gate)
    await target.start()
    const device = remote(target.tcp, 'disk', { ...impatient, requestTimeout: 100 })
    await device.open()
    const refused = await device.driver.stamp!().then(
      () => null,
      (error: unknown) => error as StorageError,
    )
    expect(refused).to.include({ code: 'UNAVAILABLE' })
    expect(refused!.message).to.include('no answer within 100 ms')
    await reaches(device, online)
    expect(await device.driver.stamp!()).to.equal('it')
    await device.close()
    await target.stop()
  }).timeout(20_000)
})
