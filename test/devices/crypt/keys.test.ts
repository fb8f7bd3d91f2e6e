import { expect } from 'chai'
import { systemClock } from '../../../src/base/clock.ts'
import { systemRandom } from '../../../src/base/random.ts'
import { MiB } from '../../../src/base/size.ts'
import { Device } from '../../../src/device/device.ts'
import { Deriver } from '../../../src/devices/crypt/deriver.ts'
import { isFault } from '../../../src/devices/crypt/header.ts'
import { addKeyslot, removeKeyslot } from '../../../src/devices/crypt/keyslots.ts'
import { Medium } from '../../../src/devices/crypt/medium.ts'
import { loadHeader, type Stored } from '../../../src/devices/crypt/store.ts'
import { unlock } from '../../../src/devices/crypt/unlock.ts'
import { MemoryDriver } from '../../../src/devices/memory.ts'
import { read, write } from '../../support/io.ts'
import { SeededRandom } from '../../support/seeded.ts'
import { format, passphrase, quick } from './support.ts'

const slotsAt = 208
const slotBytes = 48

describe('keys of crypt', () => {
  let device: Device
  let medium: Medium
  let deriver: Deriver

  async function make(version: 'luks1' | 'luks2'): Promise<void> {
    await device.open()
    await format(device, { format: version, sectorBytes: 512 })
  }

  async function load(): Promise<Stored> {
    const stored = await loadHeader(medium)
    if (isFault(stored)) throw new Error(stored.reason)
    return stored
  }

  async function keyOf(stored: Stored, text = passphrase): Promise<Buffer | null> {
    const secrets = { passphrase: Buffer.from(text), deriver }
    return (await unlock(medium, stored, secrets))?.key ?? null
  }

  async function add(stored: Stored, text: string): Promise<number> {
    const key = (await keyOf(stored))!
    const maker = { medium, deriver, random: systemRandom }
    return addKeyslot(maker, stored, quick, { passphrase: Buffer.from(text), key })
  }

  const remove = (stored: Stored, id: number): Promise<void> =>
    removeKeyslot({ medium, random: systemRandom }, stored, id)

  async function codeOf(change: Promise<unknown>): Promise<string> {
    return change.then(
      () => 'succeeded',
      (error: unknown) => (error as { code: string }).code,
    )
  }

  /** Changes four bytes of a keyslot of version 1. */
  async function patch(id: number, field: number, value: number): Promise<void> {
    const header = await read(device, 0, 1024)
    header.writeUInt32BE(value, slotsAt + id * slotBytes + field)
    await write(device, 0, header)
  }

  beforeEach(() => {
    deriver = new Deriver(systemClock)
    device = new Device('k', new MemoryDriver(18 * MiB, new SeededRandom(1)), systemClock)
    medium = new Medium(device)
  })
  afterEach(async () => {
    deriver.close()
    await device.close()
  })

  it('are not written over a keyslot of luks1 that is in use and cannot be tried', async () => {
    await make('luks1')
    await add(await load(), 'slow')
    // More iterations than are tried here; whoever has the key opens it elsewhere.
    await patch(1, 4, 200_000_000)
    const before = await read(device, 0, 2 * MiB)
    const id = await add(await load(), 'another')
    expect(id).to.equal(2)
    const after = await read(device, 0, 2 * MiB)
    const [from, to] = [slotsAt + slotBytes, slotsAt + 2 * slotBytes]
    expect(after.subarray(from, to).equals(before.subarray(from, to))).to.equal(true)
    const area = before.readUInt32BE(from + 40) * 512
    const isKept = after
      .subarray(area, area + 256_000)
      .equals(before.subarray(area, area + 256_000))
    expect(isKept, 'its stripes are there').to.equal(true)
  })

  it('are not put where the header says nothing of the stripes that are read', async () => {
    await make('luks1')
    await patch(1, 44, 1000)
    const id = await add(await load(), 'another')
    expect(id).to.equal(2)
    expect(await keyOf(await load(), 'another')).to.not.equal(null)
  })

  it('are not removed from a place that another keyslot of luks1 has, too', async () => {
    await make('luks1')
    await add(await load(), 'another')
    const header = await read(device, 0, 1024)
    await patch(2, 0, 0x00ac71f3)
    await patch(2, 4, 1000)
    await patch(2, 40, header.readUInt32BE(slotsAt + 40) + 8)
    expect(await codeOf(remove(await load(), 2))).to.equal('UNSUPPORTED')
    expect(await keyOf(await load())).to.not.equal(null)
  })

  it('are made in no device that has no room for a sector behind them', async () => {
    await device.close()
    const driver = new MemoryDriver(16 * MiB + 512, new SeededRandom(1))
    device = new Device('k', driver, systemClock)
    await device.open()
    await write(device, 0, Buffer.from('what was there'))
    expect(await codeOf(format(device))).to.equal('NO_SPACE')
    expect((await read(device, 0, 14)).toString()).to.equal('what was there')
    await format(device, { sectorBytes: 512 })
  })

  for (const version of ['luks1', 'luks2'] as const) {
    it(`are not changed by what was read before another change, ${version}`, async () => {
      await make(version)
      const stale = await load()
      await add(await load(), 'first')
      expect(await codeOf(add(stale, 'second'))).to.equal('BUSY')
      expect(await codeOf(remove(stale, 0))).to.equal('BUSY')
      expect(await keyOf(await load(), 'first')).to.not.equal(null)
      expect(await keyOf(await load())).to.not.equal(null)
    })
  }
})
