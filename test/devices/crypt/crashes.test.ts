import { expect } from 'chai'
import { systemClock } from '../../../src/base/clock.ts'
import { systemRandom } from '../../../src/base/random.ts'
import { MiB } from '../../../src/base/size.ts'
import { Device } from '../../../src/device/device.ts'
import { Operation, type Request } from '../../../src/device/request.ts'
import { Deriver } from '../../../src/devices/crypt/deriver.ts'
import { isFault } from '../../../src/devices/crypt/header.ts'
import { addKeyslot, removeKeyslot } from '../../../src/devices/crypt/keyslots.ts'
import { Medium } from '../../../src/devices/crypt/medium.ts'
import { loadHeader, type Stored } from '../../../src/devices/crypt/store.ts'
import { unlock } from '../../../src/devices/crypt/unlock.ts'
import { Layer } from '../../../src/devices/faults/layer.ts'
import { MemoryDriver } from '../../../src/devices/memory.ts'
import { read, write } from '../../support/io.ts'
import { SeededRandom } from '../../support/seeded.ts'
import { format, passphrase, quick } from './support.ts'

interface Write {
  readonly offset: number
  readonly bytes: Buffer
}

/** Keeps what was written, and says of each write whether a flush followed before the next one. */
class Recorder extends Layer {
  readonly type = 'recorder'
  readonly writes: Write[] = []
  durable = 0

  submit(request: Request): void {
    if (request.operation === Operation.write)
      this.writes.push({ offset: request.offset, bytes: Buffer.concat(request.segments) })
    if (request.operation === Operation.flush) this.durable = this.writes.length
    if (request.operation === Operation.write)
      expect(this.durable, 'a write waits until the one before is durable').to.equal(
        this.writes.length - 1,
      )
    this.below.submit(request)
  }

  describe(): Record<string, unknown> {
    return {}
  }
}

/** Bytes that hold the header, the first keyslots and nothing else that matters. */
const imageBytes = 2 * MiB
const deviceBytes = 18 * MiB
const second = Buffer.from('the second passphrase')
const third = Buffer.from('the third passphrase')
const first = Buffer.from(passphrase)

/** A device in memory that is taken back to any of its states. */
class Rig {
  readonly deriver = new Deriver(systemClock)
  readonly device: Device
  readonly medium: Medium

  constructor() {
    const memory = new MemoryDriver(deviceBytes, new SeededRandom(1))
    this.device = new Device('rig', memory, systemClock)
    this.medium = new Medium(this.device)
  }

  async image(): Promise<Buffer> {
    return read(this.device, 0, imageBytes)
  }

  async put(image: Buffer): Promise<void> {
    await write(this.device, 0, Buffer.from(image))
  }

  /** Makes a change and returns its writes. */
  async record(change: (medium: Medium, stored: Stored) => Promise<void>): Promise<Write[]> {
    const recorder = new Recorder(this.device)
    const above = new Device('recorded', recorder, systemClock)
    await above.open()
    const medium = new Medium(above)
    await change(medium, await this.load())
    expect(recorder.durable, 'the last write is durable').to.equal(recorder.writes.length)
    return recorder.writes
  }

  async load(): Promise<Stored> {
    const stored = await loadHeader(this.medium)
    if (isFault(stored)) throw new Error(stored.reason)
    return stored
  }

  async opens(key: Buffer): Promise<boolean> {
    const secrets = { passphrase: key, deriver: this.deriver }
    return (await unlock(this.medium, await this.load(), secrets)) !== null
  }

  async add(medium: Medium, stored: Stored, added: Buffer): Promise<void> {
    const secrets = { passphrase: first, deriver: this.deriver }
    const { key } = (await unlock(this.medium, stored, secrets))!
    const maker = { medium, deriver: this.deriver, random: systemRandom }
    await addKeyslot(maker, stored, quick, { passphrase: added, key })
  }
}

/**
 * What a crash may leave of a write, over the bytes that were there: of a header every byte from
 * its beginning, and sectors in any order; of a keyslot, in which no byte is special, some.
 */
function* torn(old: Buffer, { offset, bytes }: Write): Generator<Buffer> {
  const isHeader = bytes.length <= 65_536
  const step = isHeader ? 1 : 50_000
  const state = Buffer.from(old)
  for (let cut = 0; cut < bytes.length; cut += step) {
    const end = Math.min(cut + step, bytes.length)
    // A cut that changes nothing more is the state before it.
    if (bytes.compare(state, cut, end, cut, end) === 0) continue
    bytes.copy(state, cut, cut, end)
    yield state
  }
  const random = new SeededRandom(offset)
  for (let count = 0; isHeader && count < 40; count++) {
    old.copy(state)
    for (let at = 0; at < bytes.length; at += 512)
      if (random.fraction() < 0.5) bytes.copy(state, at, at, at + 512)
    yield state
  }
}

/** Looks at every state that a crash may leave. Returns how many there were. */
async function survives(rig: Rig, before: Buffer, writes: Write[], key: Buffer): Promise<number> {
  await rig.put(before)
  let states = 0
  for (const one of writes) {
    const { offset, bytes } = one
    const old = await read(rig.device, offset, bytes.length)
    const opened = new Set<string>()
    const look = async (state: Buffer): Promise<void> => {
      states++
      await write(rig.device, offset, Buffer.from(state))
      // Of states with the same header one is tried; where keyslots change, each is.
      const header = JSON.stringify((await rig.load()).header)
      const known = bytes.length > 65_536 ? String(states) : header
      if (opened.has(known)) return
      expect(await rig.opens(key), `state ${states}`).to.equal(true)
      opened.add(known)
    }
    for (const state of torn(old, one)) await look(state)
    await look(bytes)
  }
  return states
}

for (const version of ['luks1', 'luks2'] as const)
  describe(`a crash while a key of ${version} is changed`, () => {
    let rig: Rig
    beforeEach(async () => {
      rig = new Rig()
      await rig.device.open()
      await format(rig.device, { format: version, sectorBytes: 512 })
    })
    afterEach(async () => {
      rig.deriver.close()
      await rig.device.close()
    })

    it('leaves the key that was there, when one is added', async () => {
      const before = await rig.image()
      const writes = await rig.record((medium, stored) => rig.add(medium, stored, second))
      expect(await survives(rig, before, writes, first)).to.be.greaterThan(80)
      expect(await rig.opens(second), 'at the end the new one opens, too').to.equal(true)
    })

    it('leaves the key that stays, when one is removed', async () => {
      await rig.add(rig.medium, await rig.load(), second)
      const before = await rig.image()
      const writes = await rig.record((medium, stored) =>
        removeKeyslot({ medium, random: systemRandom }, stored, 0),
      )
      expect(await survives(rig, before, writes, second)).to.be.greaterThan(80)
      expect(await rig.opens(first), 'the other opens no more').to.equal(false)
    })

    it('is mended by the next change, which may be cut off as well', async () => {
      const before = await rig.image()
      const [area, ...headers] = await rig.record((medium, stored) =>
        rig.add(medium, stored, second),
      )
      const broken = Buffer.from(before)
      area!.bytes.copy(broken, area!.offset)
      for (const { bytes, offset } of headers) {
        // Half of this write, and all before it.
        bytes.copy(broken, offset, 0, 40)
        await rig.put(broken)
        const again = await rig.record((medium, stored) => rig.add(medium, stored, third))
        await survives(rig, broken, again, first)
        expect(await rig.opens(third)).to.equal(true)
        expect((await rig.load()).problems).to.deep.equal([])
        bytes.copy(broken, offset)
      }
    })
  })
