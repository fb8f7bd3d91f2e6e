import { expect } from 'chai'
import { KiB, MiB } from '../../src/base/size.ts'
import type { Device } from '../../src/device/device.ts'
import { restartsOf } from '../../src/device/facts.ts'
import { LossReport } from '../../src/device/loss-report.ts'
import { Operation, Request } from '../../src/device/request.ts'
import { defaultRemoteOptions } from '../../src/wire/remote-options.ts'
import { RemoteDriver } from '../../src/wire/remote.ts'
import { read, submit, write } from '../support/io.ts'
import { GateDriver } from './gate.ts'
import { clientContext, reaches, remote, Target } from './rig.ts'

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
