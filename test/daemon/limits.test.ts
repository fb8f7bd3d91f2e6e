import { expect } from 'chai'
import { KiB, MiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { ExportTable, type Terms } from '../../src/daemon/exports.ts'
import { Admission } from '../../src/export/admission.ts'
import { NbdDriver } from '../../src/nbd/remote.ts'
import { NbdService } from '../../src/nbd/server.ts'
import { DstService } from '../../src/wire/server.ts'
import { RemoteDriver } from '../../src/wire/remote.ts'
import { defaultRemoteOptions, type RemoteOptions } from '../../src/wire/remote-options.ts'
import { SimClock } from '../simulation/clock.ts'
import { Dice } from '../simulation/dice.ts'
import { Machine, type Process } from '../simulation/machine.ts'
import { SimNetwork } from '../simulation/network.ts'
import { Stage } from '../simulation/stage.ts'
import { serviceContext } from '../simulation/trees.ts'
import { silentLog } from '../../src/base/log.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { read, submit, write } from '../support/io.ts'
import { Operation } from '../../src/device/request.ts'

const ports = { dst: 1, nbd: 2 } as const
type Protocol = keyof typeof ports
const protocols = ['dst', 'nbd'] as const

/** A target with exports `slow` and `free`, and clients elsewhere, in simulated time. */
class Pair {
  readonly clock = new SimClock()
  readonly network: SimNetwork
  readonly server: Process
  readonly table: ExportTable
  readonly admission: Admission
  private readonly services: { readonly dst: DstService; readonly nbd: NbdService }
  private readonly devices: readonly Device[]
  private readonly clients: Machine

  constructor() {
    const dice = new Dice(7)
    this.network = new SimNetwork(this.clock, dice)
    this.network.crumbs = 0
    this.server = new Machine('b', this.clock, this.network, dice).start('target')
    this.clients = new Machine('10.0.0.1', this.clock, this.network, dice)
    this.devices = ['slow', 'free'].map((name) => {
      return new Device(name, new MemoryDriver(16 * MiB, dice), this.server.clock)
    })
    this.table = new ExportTable(
      this.devices.map((device) => {
        const { path: name } = device
        return { name, device, readOnly: false, mayClaim: true, description: '' }
      }),
      this.server.clock,
    )
    const context = serviceContext(this.server, new MemoryStore())
    this.admission = context.admission
    this.services = { dst: new DstService(context), nbd: new NbdService(context) }
    const entrance = this.table.entrance()
    for (const protocol of protocols)
      this.network.listen(this.server, ports[protocol], (connection) =>
        this.services[protocol].accept(connection, entrance),
      )
    context.claims.ready(() => undefined)
  }

  async open(slow: Terms): Promise<void> {
    this.table.apply({ slow })
    for (const device of this.devices) await device.open()
  }

  /** Gives the export other terms, as a target does at SIGHUP. */
  apply(slow: Terms): void {
    this.table.apply({ slow })
    for (const service of Object.values(this.services)) service.recheck()
  }

  async client(
    protocol: Protocol,
    name: 'slow' | 'free',
    options: Partial<RemoteOptions> = {},
  ): Promise<Device> {
    const process = this.clients.start('client')
    const { network, slab, clock, dice: random } = process
    const address = { kind: 'tcp', host: 'b', port: ports[protocol] } as const
    const world = { network, slab, clock, random, log: silentLog }
    const all = { ...defaultRemoteOptions, ...options, address, name }
    const driver =
      protocol === 'dst' ? new RemoteDriver(all, world) : new NbdDriver({ address, name }, world)
    const device = new Device(`${protocol} ${name}`, driver, clock)
    void device.open()
    await this.until(() => device.usable)
    return device
  }

  /** Lets simulated time pass until that is so. */
  async until(done: () => boolean, ms = 1e7): Promise<void> {
    expect(await this.clock.run(this.clock.time + ms, done)).to.equal(true)
  }

  /** Writes that are all asked for at once; tells how many were answered. */
  writes(device: Device, count: number, length: number): { done: number; errors: number } {
    const tally = { done: 0, errors: 0 }
    for (let at = 0; at < count; at++)
      void submit(device, Operation.write, at * length, length, 0, [Buffer.alloc(length, at)]).then(
        ({ error }) => {
          tally.done++
          if (error !== null) tally.errors++
        },
      )
    return tally
  }

  async pass(ms: number): Promise<void> {
    await this.clock.run(this.clock.time + ms)
  }
}

describe('limits of an export', () => {
  let pair: Pair
  beforeEach(() => {
    pair = new Pair()
  })

  for (const protocol of protocols) {
    it(`let a burst through over ${protocol}, then the rate, and nothing is lost`, async () => {
      await pair.open({ limits: { operationsPerSecond: 10, operationsBurst: 5 } })
      const device = await pair.client(protocol, 'slow')
      await pair.pass(10_000)
      const began = pair.clock.time
      const tally = pair.writes(device, 35, 4 * KiB)
      await pair.pass(1050)
      expect(tally.done).to.be.within(14, 16)
      await pair.until(() => tally.done === 35)
      expect(pair.clock.time - began).to.be.within(2990, 3100)
      expect(tally.errors).to.equal(0)
      pair.apply({})
      const bytes = read(device, 20 * 4 * KiB, 4 * KiB)
      await pair.pass(100)
      expect(await bytes).to.deep.equal(Buffer.alloc(4 * KiB, 20))
    })

    it(`bound bytes over ${protocol}, also of a request that is larger than a burst`, async () => {
      await pair.open({ limits: { bytesPerSecond: '64K', bytesBurst: '64K' } })
      const device = await pair.client(protocol, 'slow')
      const began = pair.clock.time
      const tally = pair.writes(device, 3, MiB)
      await pair.until(() => tally.done === 1)
      expect(pair.clock.time - began, 'the first goes into debt').to.be.below(1000)
      await pair.until(() => tally.done === 3)
      expect(pair.clock.time - began).to.be.within(31_900, 33_000)
      expect(tally.errors).to.equal(0)
    })
  }

  it('are of all connections together, over both protocols, and of no other export', async () => {
    await pair.open({ limits: { operationsPerSecond: 10, operationsBurst: 1 } })
    const slow = await Promise.all(protocols.map((protocol) => pair.client(protocol, 'slow')))
    const free = await pair.client('nbd', 'free')
    const began = pair.clock.time
    const [dst, nbd] = slow.map((device) => pair.writes(device, 50, 4 * KiB))
    const quick = pair.writes(free, 500, 4 * KiB)
    await pair.until(() => quick.done === 500)
    expect(pair.clock.time - began, 'not slowed down').to.be.below(500)
    await pair.pass(4000)
    expect(dst!.done + nbd!.done).to.be.within(35, 47)
    // By connections, of which the client of DST/1 has two.
    expect(nbd!.done).to.be.within(11, 17)
    expect(pair.table.pacesOf('slow')[0]!.pace).to.include({ throttles: true })
    expect(pair.table.pacesOf('free')).to.deep.equal([])
    await pair.until(() => dst!.done + nbd!.done === 100)
    expect(pair.clock.time - began).to.be.within(9800, 10_100)
  })

  it('leave a client of DST/1 with default settings connected, whatever it waits for', async () => {
    await pair.open({ limits: { operationsPerSecond: 1, bytesPerSecond: '16K' } })
    const patience = [{}, { pingInterval: 2000, pingTimeout: 5000 }]
    const all = await Promise.all(patience.map((each) => pair.client('dst', 'slow', each)))
    const sessions = (): unknown[] => all.map(({ driver }) => driver.describe()['sessions'])
    const before = sessions()
    // The first of a megabyte leaves a debt of 64 seconds, much longer than any silence may be.
    const large = pair.writes(all[0]!, 2, MiB)
    const small = all.map((device) => pair.writes(device, 10, 4 * KiB))
    let offline = 0
    for (const device of all) device.watch(({ usable }) => (offline += usable ? 0 : 1))
    await pair.until(() => small.every(({ done }) => done === 10) && large.done === 2)
    expect([large, ...small].map(({ errors }) => errors)).to.deep.equal([0, 0, 0])
    expect(offline).to.equal(0)
    expect(sessions()).to.deep.equal(before)
  })

  it('keep nothing of who waits in memory, and take no room from others', async () => {
    await pair.open({ limits: { operationsPerSecond: 1, operationsBurst: 1 } })
    const all = await Promise.all(protocols.map((protocol) => pair.client(protocol, 'slow')))
    const tallies = all.map((device) => pair.writes(device, 40, 256 * KiB))
    await pair.pass(10_000)
    const { bytesHeld } = pair.server.slab
    for (let second = 0; second < 10; second++) {
      await pair.pass(1000)
      expect(pair.admission.bytesInFlight).to.be.below(512 * KiB)
      expect(pair.server.slab.bytesHeld).to.be.below(bytesHeld + 512 * KiB)
    }
    pair.apply({})
    await pair.until(() => tallies.every(({ done }) => done === 40))
    expect(tallies.map(({ errors }) => errors)).to.deep.equal([0, 0])
    await pair.pass(2000)
    expect(pair.admission.bytesInFlight).to.equal(0)
  })

  it('change for open connections, and rules let go who has lost a right', async () => {
    await pair.open({ limits: { operationsPerSecond: 1, operationsBurst: 1 } })
    const [dst, nbd] = await Promise.all(protocols.map((each) => pair.client(each, 'slow')))
    const tallies = [dst!, nbd!].map((device) => pair.writes(device, 50, 4 * KiB))
    await pair.pass(3000)
    expect(tallies.map(({ done }) => done).some((done) => done > 5)).to.equal(false)
    pair.apply({ limits: { operationsPerSecond: 1000, operationsBurst: 1 } })
    await pair.until(() => tallies.every(({ done }) => done === 50), 1000)
    expect(tallies.map(({ errors }) => errors)).to.deep.equal([0, 0])
    pair.apply({ allow: [{ address: '10.0.0.0/8', may: ['read'] }] })
    await pair.until(() => dst!.facts!.readOnly && dst!.usable)
    const refused = submit(dst!, Operation.write, 0, 4 * KiB, 0, [Buffer.alloc(4 * KiB)])
    await pair.pass(100)
    expect((await refused).error?.code).to.equal('READ_ONLY')
    pair.apply({})
    await pair.until(() => !dst!.facts!.readOnly && dst!.usable)
    const done = write(dst!, 0, Buffer.alloc(4 * KiB))
    await pair.pass(100)
    await done
  })

  it('slow a mirror’s leg down, and take it out of nothing', async () => {
    const stage = new Stage({ seed: 3, settings: { legTimeoutMs: 7000 } })
    stage.leg('right').target!.rates = {
      operationsPerSecond: 200,
      operationsBurst: 5,
      bytesPerSecond: null,
      bytesBurst: 1,
    }
    await stage.start()
    const began = stage.world.clock.time
    const client = stage.begin((hand) => {
      for (let at = 0; at < 400; at++) hand.write((at * 7) % 100, 8)
      hand.flush()
    })
    await stage.until('all complete', () => client.inFlight === 0)
    expect(stage.world.clock.time - began).to.be.above(1900)
    expect(client.errors).to.equal(0)
    expect(stage.legs).to.deep.equal({ left: 'in-sync', right: 'in-sync' })
    await stage.audit()
  })
})
