import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { restartsOf } from '../../src/device/facts.ts'
import { LossReport } from '../../src/device/loss-report.ts'
import { Operation, Request } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { MirrorDriver } from '../../src/mirror/mirror.ts'
import { defaultRemoteOptions } from '../../src/wire/remote-options.ts'
import { RemoteDriver } from '../../src/wire/remote.ts'
import { Disk, DiskDriver } from '../mirror/disk.ts'
import { copyOf } from '../mirror/putting-back.ts'
import { flush, read, submit, write } from '../support/io.ts'
import { GateDriver } from './gate.ts'
import { clientContext, reaches, remote, Target } from './rig.ts'
import { SeededRandom } from '../support/seeded.ts'
import { MemoryStore } from '../support/memory-store.ts'

const online = (device: Device): boolean => device.state.word === 'online'
const block = Buffer.alloc(4 * KiB, 1)

/** What a flush of this client ends with: a code, or 'none'. */
async function flushOf(device: Device, client: LossReport): Promise<string> {
  const { error } = await submit(device, Operation.flush, 0, 0)
  const flush = Request.take(Operation.flush, 0, 0, 0, { completed: () => undefined })
  flush.error = error
  client.tell(flush)
  return flush.error?.code ?? 'none'
}

describe('a client of a target that exports the export of another target', () => {
  let lower: Target
  let upper: Target
  let disk: GateDriver
  let device: Device

  beforeEach(async () => {
    lower = new Target()
    disk = new GateDriver(MiB)
    await lower.add('disk', disk)
    await lower.start()
    upper = new Target()
    const options = { ...defaultRemoteOptions, address: lower.tcp, name: 'disk' }
    await upper.add('far', new RemoteDriver(options, clientContext()))
    await upper.start()
    device = remote(upper.tcp, 'far')
    await device.open()
  })

  afterEach(async () => {
    disk.openGate()
    await device.close()
    await upper.stop()
    await lower.stop()
  })

  it('hears that the lower one lost its cache, and its next flush fails', async () => {
    const client = new LossReport(device)
    await write(device, 0, block)
    const before = device.facts!.bootId
    await lower.kill()
    disk.become({ bootId: 'b'.repeat(32) })
    await lower.start()
    await reaches(device, ({ facts }) => facts!.bootId !== before)
    expect(await flushOf(device, client)).to.equal('STALE')
    expect(await flushOf(device, client)).to.equal('none')
  })

  it('counts a restart of the lower one as one, though no cache is lost by it', async () => {
    await write(device, 0, block)
    expect(restartsOf(device)).to.equal(0)
    for (const times of [1, 2]) {
      await lower.kill()
      await lower.start()
      await reaches(device, (each) => restartsOf(each) === times && online(each))
    }
    expect((await read(device, 0, 4 * KiB)).equals(block)).to.equal(true)
  })

  it('has a write carried out that was under way then', async () => {
    disk.shutGate()
    const writing = write(device, 0, block)
    await disk.arrivals(1)
    const killed = lower.kill()
    disk.openGate()
    await killed
    await lower.start()
    await writing
    await reaches(device, (each) => restartsOf(each) === 1 && online(each))
    expect((await read(device, 0, 4 * KiB)).equals(block)).to.equal(true)
  })
})

describe('a leg two targets away', () => {
  it('that is put back while the further target restarts is filled', async () => {
    const [far, near] = [new Disk(4 * MiB), new Disk(4 * MiB)]
    const lower = new Target()
    await lower.add('disk', new DiskDriver(far))
    await lower.start()
    const upper = new Target()
    const options = { ...defaultRemoteOptions, address: lower.tcp, name: 'disk' }
    await upper.add('far', new RemoteDriver(options, clientContext()))
    await upper.start()
    const legs = [
      { name: 'far', device: remote(upper.tcp, 'far', { hold: 60_000 }) },
      { name: 'near', device: new Device('near', new DiskDriver(near), systemClock) },
    ]
    const mirror = new MirrorDriver({
      legs,
      clock: systemClock,
      random: new SeededRandom(7),
      log: silentLog,
      store: new MemoryStore(),
      key: 'm',
      settings: { extentSize: 64 * KiB, legRetryMs: 5, intentIdleMs: 2 },
    })
    const head = new Device('m', mirror, systemClock)
    await head.open()
    await reaches(head, online)
    await put(1)
    const back = copyOf(far)
    await put(2)
    await lower.kill()
    back()
    await lower.start()
    const wasFilled = (): boolean =>
      mirror.history().some(({ leg, resync }) => {
        return leg === 'far' && resync?.kind === 'full' && resync.outcome === 'complete'
      })
    await reaches(head, (device) => online(device) && wasFilled())
    expect(far.cached[0]).to.equal(2)
    for (let turn = 0; turn < 6; turn++) expect((await read(head, 0, 512))[0]).to.equal(2)
    await head.close()
    await upper.stop()
    await lower.stop()

    /** Writes it on both legs, flushes, and waits until that is marked. */
    async function put(byte: number): Promise<void> {
      const at = far.log.length
      await write(head, 0, Buffer.alloc(4 * KiB, byte))
      await flush(head)
      const slots = [0, 1].map((slot) => superblockOffset(far.size, slot))
      while (!far.log.slice(at).some(({ offset, fua }) => fua && slots.includes(offset)))
        await new Promise(setImmediate)
    }
  })
})
