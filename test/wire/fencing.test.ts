import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { StorageError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { LogDriver } from '../../src/devices/faults/log.ts'
import { LinearDriver } from '../../src/devices/linear.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { Operation } from '../../src/device/request.ts'
import type { Network } from '../../src/net/network.ts'
import { Command, Kind } from '../../src/wire/codec.ts'
import { statusOf } from '../../src/wire/status.ts'
import { flush, read, submit, write } from '../support/io.ts'
import { Proxy } from '../support/proxy.ts'
import { GateDriver } from './gate.ts'
import { hello, RawClient, request } from './raw.ts'
import { clientContext, reaches, remote, Target } from './rig.ts'
import { SeededRandom } from '../support/seeded.ts'

const fill = (byte: number): Buffer => Buffer.alloc(4 * KiB, byte)

describe('a device that heads fight over', () => {
  let target: Target
  let gate: GateDriver
  let proxy: Proxy
  let older: Device
  let newer: Device

  beforeEach(async () => {
    target = new Target()
    gate = new GateDriver(4 * MiB)
    await target.add('leg', gate)
    await target.start()
    proxy = await Proxy.start({ port: target.port })
    older = remote({ kind: 'tcp', host: '127.0.0.1', port: proxy.port }, 'leg')
    newer = remote(target.tcp, 'leg')
    await older.open()
    await newer.open()
  })

  afterEach(async () => {
    gate.openGate()
    await older.close()
    await newer.close()
    await proxy.close()
    await target.stop()
  })

  const operations = [
    Operation.read,
    Operation.status,
    Operation.write,
    Operation.trim,
    Operation.writeZeroes,
    Operation.flush,
  ]

  const codeOf = async (device: Device, operation: Operation): Promise<string | undefined> => {
    const segments = operation === Operation.write ? [fill(9)] : []
    const length = operation === Operation.flush ? 0 : 4 * KiB
    return (await submit(device, operation, 0, length, 0, segments)).error?.code
  }

  it('obeys the one with the higher epoch alone', async () => {
    await older.driver.claim!(1)
    expect(gate.epoch).to.equal(1)
    await write(older, 0, fill(1))
    await newer.driver.claim!(2)
    for (const operation of operations) expect(await codeOf(older, operation)).to.equal('FENCED')
    await write(newer, 0, fill(2))
    await flush(newer)
  })

  it('tells the older head at once, which asks for nothing more', async () => {
    await older.driver.claim!(1)
    await newer.driver.claim!(2)
    await reaches(older, ({ state }) => state.word === 'failed')
    expect(older.state).to.include({ code: 'FENCED' })
    expect(older.state.reason).to.include('a newer head has taken over')
    // Over the connection that it has.
    await older.driver.claim!(3)
    expect(older.usable).to.equal(true)
    await write(older, 0, fill(3))
    await reaches(newer, ({ state }) => state.word === 'failed')
  })

  it('refuses reads to the older head also where it cannot be told', async () => {
    const old = await RawClient.connect(target.tcp)
    old.send(hello({ name: 'leg', claim: 1 }))
    expect((await old.welcome()).features).to.equal(0)
    await newer.driver.claim!(2)
    for (const command of [Command.read, Command.status, Command.flush, Command.trim]) {
      old.send(request({ command, length: 4096, sequence: command }))
      expect((await old.reply()).header).to.include({
        kind: Kind.reply,
        status: statusOf('FENCED'),
      })
    }
    old.destroy()
  })

  it('lets those read who never claimed it, and those who gave it up', async () => {
    await write(older, 0, fill(1))
    await newer.driver.claim!(1)
    expect((await read(older, 0, 4 * KiB)).equals(fill(1))).to.equal(true)
    await newer.driver.claim!(0)
    await older.driver.claim!(2)
    expect((await read(newer, 0, 4 * KiB)).equals(fill(1))).to.equal(true)
    expect(await codeOf(newer, Operation.write)).to.equal('FENCED')
    expect(newer.usable).to.equal(true)
  })

  it('has every connection of the older head refuse, and the other exports of it', async () => {
    const device = target.exports.find('leg')!.device
    target.exports.set('again', device)
    const wide = remote(target.tcp, 'again', { connections: 4 })
    await wide.open()
    await wide.driver.claim!(1)
    await newer.driver.claim!(2)
    await reaches(wide, ({ state }) => state.word === 'failed')
    for (const operation of operations) expect(await codeOf(wide, operation)).to.equal('FENCED')
    await wide.close()
  })

  it('is passed on by a linear and by layers above it', async () => {
    const below = [remote(target.tcp, 'leg'), remote(target.tcp, 'leg')]
    const clock = systemClock
    const memory = new Device('m', new MemoryDriver(MiB, new SeededRandom(1)), clock)
    const linear = new Device('linear', new LinearDriver([memory, below[0]!]), clock)
    const layer = new Device(
      'layer',
      new LogDriver(below[1]!, { level: 'debug' }, silentLog, clock),
      clock,
    )
    for (const device of [linear, layer]) {
      await device.open()
      await device.driver.claim!(device === linear ? 1 : 2)
    }
    await newer.driver.claim!(3)
    for (const device of [linear, layer]) {
      await reaches(device, ({ state }) => state.word === 'failed')
      for (const operation of operations) expect(await codeOf(device, operation)).to.equal('FENCED')
    }
    expect([linear, layer].map(({ driver }) => driver.fencing!())).to.deep.equal(['none', 'told'])
    await linear.close()
    await layer.close()
  })

  it('refuses a claim that is too low', async () => {
    await newer.driver.claim!(5)
    const refusal = await older.driver.claim!(4).then(
      () => null,
      (error: unknown) => error as { code: string },
    )
    expect(refusal?.code).to.equal('FENCED')
    await write(newer, 0, fill(1))
  })

  it('refuses a hello whose claim leaps far above the last', async () => {
    await newer.driver.claim!(5)
    for (const claim of [2 ** 52, 2 ** 44 + 1]) {
      const stranger = await RawClient.connect(target.tcp)
      stranger.send(hello({ name: 'leg', claim }))
      const { status, text } = await stranger.welcome()
      expect(status).to.equal(statusOf('INVALID'))
      expect(text).to.include('the last was 5').and.include('dst claim reset')
      stranger.destroy()
    }
    await write(newer, 0, fill(1))
    // What was never claimed here may have been a leg elsewhere, for long.
    await target.addMemory('spare', 4 * MiB)
    const head = await RawClient.connect(target.tcp)
    head.send(hello({ name: 'spare', claim: 2 ** 52 }))
    expect((await head.welcome()).status).to.equal(0)
    head.destroy()
  })

  it('lets no claim through before the older head’s writes have landed', async () => {
    await older.driver.claim!(1)
    gate.shutGate()
    const ghost = write(older, 0, fill(1))
    await gate.arrivals(1)
    let claimed = false
    const claiming = newer.driver.claim!(2).then(() => (claimed = true))
    await read(newer, 0, 4 * KiB)
    expect(claimed).to.equal(false)
    gate.openGate()
    await Promise.all([ghost, claiming])
    await write(newer, 0, fill(2))
    expect((await read(newer, 0, 4 * KiB)).equals(fill(2))).to.equal(true)
  })

  it('turns the older head away for good when it comes back', async () => {
    await older.driver.claim!(1)
    proxy.freeze()
    await newer.driver.claim!(2)
    proxy.cut()
    proxy.thaw()
    await reaches(older, ({ state }) => state.word === 'failed')
    expect(older.state.reason).to.include('a newer head')
    expect(await codeOf(older, Operation.write)).to.equal('FENCED')
    // Its operator makes it the head again.
    await older.driver.claim!(3).catch(() => undefined)
    await reaches(older, ({ state }) => state.word === 'online')
    await write(older, 0, fill(3))
    expect(await codeOf(newer, Operation.write)).to.equal('FENCED')
  })

  it('stays shut to the older head that is back first after a restart of the target', async () => {
    await older.driver.claim!(1)
    proxy.freeze()
    await newer.driver.claim!(2)
    await newer.close()
    await target.kill()
    proxy.cut()
    proxy.thaw()
    await reaches(older, ({ state }) => state.word === 'degraded')
    await target.start()
    await reaches(older, ({ state }) => state.word === 'failed')
    const stranger = remote(target.tcp, 'leg')
    await stranger.open()
    expect(await codeOf(stranger, Operation.write)).to.equal('FENCED')
    expect(gate.written).to.deep.equal([])
    await stranger.close()
  })

  it('is open to anybody when the claim is given up, also after a restart', async () => {
    await newer.driver.claim!(2)
    expect(await codeOf(older, Operation.write)).to.equal('FENCED')
    const refusal = await older.driver.claim!(0).then(
      () => null,
      (error: unknown) => error as { code: string },
    )
    expect(refusal?.code, 'by the one that holds it').to.equal('FENCED')
    await newer.driver.claim!(0)
    await write(older, 0, fill(1))
    await target.kill()
    await target.start()
    await write(older, 0, fill(2))
    await write(newer, 0, fill(3))
    expect(gate.epoch).to.equal(0)
  })

  it('stays shut to the older head when the newer one has given its claim up', async () => {
    await older.driver.claim!(1)
    proxy.freeze()
    await newer.driver.claim!(2)
    await newer.driver.claim!(0)
    await write(newer, 0, fill(1))
    proxy.cut()
    proxy.thaw()
    await reaches(older, ({ state }) => state.word === 'failed')
    expect(older.state.reason).to.include('a newer head')
  })

  it('is claimed by another volume above what was given up, never below', async () => {
    await older.driver.claim!(3)
    proxy.freeze()
    await newer.driver.claim!(5)
    await newer.driver.claim!(0)
    await newer.close()
    const claim = (device: Device, epoch: number): Promise<string> =>
      device.driver.claim!(epoch).then(
        () => 'done',
        (error: unknown) => (error as { code: string }).code,
      )
    const stranger = remote(target.tcp, 'leg')
    await stranger.open()
    expect(await claim(stranger, 1), 'the older head’s 3 would be above that').to.equal('FENCED')
    for (const restarts of [false, true]) {
      if (restarts) {
        await target.kill()
        await reaches(stranger, ({ state }) => state.word === 'degraded')
        await target.start()
        await reaches(stranger, ({ state }) => state.word === 'online')
      }
      expect(await stranger.driver.claimed!()).to.deep.equal({ held: 0, givenUp: 5 })
      expect(await claim(stranger, 4)).to.equal('FENCED')
      await write(stranger, 0, fill(1))
    }
    expect(await claim(stranger, 6)).to.equal('done')
    expect(await stranger.driver.claimed!()).to.deep.equal({ held: 6, givenUp: 0 })
    await write(stranger, 0, fill(2))
    const { written } = gate
    proxy.cut()
    proxy.thaw()
    await reaches(older, ({ state }) => state.word === 'failed')
    expect(await codeOf(older, Operation.write)).to.equal('FENCED')
    expect(written.length).to.equal(3)
    expect((await read(stranger, 0, 4 * KiB)).equals(fill(2))).to.equal(true)
    await stranger.close()
  })

  it('remembers of each device what was given up', async () => {
    await target.addMemory('other', 4 * MiB)
    const other = remote(target.tcp, 'other')
    await other.open()
    await newer.driver.claim!(5)
    await newer.driver.claim!(0)
    expect(await other.driver.claimed!()).to.deep.equal({ held: 0, givenUp: 0 })
    await other.driver.claim!(1)
    await newer.driver.claim!(5)
    await other.close()
  })

  it('turns nobody away for a claim that was refused', async () => {
    await newer.driver.claim!(5)
    await newer.driver.claim!(0)
    await older.driver.claim!(4).catch(() => undefined)
    proxy.cut()
    await reaches(older, ({ state }) => state.word === 'degraded')
    await reaches(older, ({ state }) => state.word === 'online')
    await write(older, 0, fill(1))
  })

  it('turns nobody away for one that leapt too far, or is of what may only be read', async () => {
    await newer.driver.claim!(5)
    await newer.driver.claim!(0)
    await older.driver.claim!(2 ** 50).catch(() => undefined)
    target.exports.set('window', target.exports.find('leg')!.device, true)
    const reader = remote({ kind: 'tcp', host: '127.0.0.1', port: proxy.port }, 'window')
    await reader.open()
    await reader.driver.claim!(7).catch(() => undefined)
    const both = [older, reader]
    const cut = both.map((device) => reaches(device, ({ state }) => state.word === 'degraded'))
    proxy.cut()
    await Promise.all(cut)
    for (const device of both) {
      await reaches(device, ({ state }) => state.word !== 'degraded')
      expect(device.state.word, device.state.reason).to.equal('online')
    }
    await write(older, 0, fill(1))
    await reader.close()
  })

  it('stays given up when a further connection of the session comes late', async () => {
    const context = clientContext()
    const { network } = context
    const late: (() => void)[] = []
    const connect: Network['connect'] = (address, timeout, attach, failed) => {
      const dial = (): void => void network.connect(address, timeout, attach, failed)
      if (dialed++ % 2 === 0) dial()
      else late.push(dial)
      return () => undefined
    }
    let dialed = 0
    const way = { ...context, network: { connect, listen: network.listen.bind(network) } }
    const head = remote({ kind: 'tcp', host: '127.0.0.1', port: proxy.port }, 'leg', {}, way)
    await head.open()
    await head.driver.claim!(5)
    proxy.cut()
    await reaches(head, ({ state }) => state.word === 'degraded')
    await reaches(head, ({ state }) => state.word === 'online')
    await head.driver.claim!(0)
    expect(late.length).to.equal(2)
    late.pop()!()
    while (head.driver.describe()['connections'] !== 2) await newer.driver.stamp!()
    expect(await newer.driver.claimed!()).to.deep.equal({ held: 0, givenUp: 5 })
    await write(newer, 0, fill(1))
    await head.close()
  })

  it('is neither claimed nor given up by who may only read it', async () => {
    const device = target.exports.find('leg')!.device
    target.exports.set('window', device, true)
    const reader = remote(target.tcp, 'window')
    await reader.open()
    const claim = (epoch: number): Promise<unknown> =>
      reader.driver.claim!(epoch).then(
        () => null,
        (error: unknown) => (error as { code: string }).code,
      )
    expect(await claim(7)).to.equal('READ_ONLY')
    await write(older, 0, fill(1))
    // The claim of whoever has it by other means than ours, such as a mirror in the same target.
    gate.epoch = 5
    expect(await claim(0)).to.equal('READ_ONLY')
    expect(gate.epoch).to.equal(5)
    await reader.close()
    // By its hello, too.
    const second = remote(target.tcp, 'window')
    // Told to claim before there is a connection: the first hello does it.
    await second.driver.claim!(7).catch(() => undefined)
    await second.open()
    expect(second.state.reason).to.include('read-only')
    await second.close()
    await write(older, 0, fill(2))
  })

  it('accepts no claim it cannot keep, nor anybody before it knows who has one', async () => {
    const { store } = target
    const save = store.save.bind(store)
    const load = store.load.bind(store)
    store.save = () => Promise.reject(new StorageError('NO_SPACE', 'the disk is full'))
    const problem = await newer.driver.claim!(2).then(
      () => null,
      (error: unknown) => error as { code: string },
    )
    expect(problem?.code).to.equal('NO_SPACE')
    store.save = save
    await newer.driver.claim!(2)
    for (const record of ['not JSON', '{"x": 1}', `{"${'a'.repeat(32)}": "1"}`]) {
      await target.kill()
      store.load = () => Promise.resolve(record)
      await target.start()
      const late = remote(target.tcp, 'leg')
      await late.open()
      expect(late.state.reason).to.include('damaged')
      await late.close()
    }
    store.load = load
    await reaches(newer, ({ state }) => state.word === 'online')
    expect(await codeOf(older, Operation.write)).to.equal('FENCED')
  })
})
