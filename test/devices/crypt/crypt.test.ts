import { createDecipheriv } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { systemClock } from '../../../src/base/clock.ts'
import { systemRandom } from '../../../src/base/random.ts'
import { KiB, MiB } from '../../../src/base/size.ts'
import { Slab } from '../../../src/base/slab.ts'
import { Device } from '../../../src/device/device.ts'
import { extentHole, extentZero } from '../../../src/device/extents.ts'
import { Operation, type Request } from '../../../src/device/request.ts'
import { Deriver } from '../../../src/devices/crypt/deriver.ts'
import { isFault } from '../../../src/devices/crypt/header.ts'
import { addKeyslot, type NewKdf } from '../../../src/devices/crypt/keyslots.ts'
import { Medium } from '../../../src/devices/crypt/medium.ts'
import { loadHeader } from '../../../src/devices/crypt/store.ts'
import { unlock } from '../../../src/devices/crypt/unlock.ts'
import { Layer } from '../../../src/devices/faults/layer.ts'
import { MemoryDriver } from '../../../src/devices/memory.ts'
import { removeFolder, temporaryFolder } from '../../support/files.ts'
import { read, submit, write } from '../../support/io.ts'
import { SeededRandom } from '../../support/seeded.ts'
import { cryptDevice, format, headerBytes, keyIn, passphrase, until } from './support.ts'

const dataBytes = 8 * MiB

/** Holds requests, and goes away and comes back, as the test says. */
class Gate extends Layer {
  readonly type = 'gate'
  readonly held: Request[] = []
  holds: Operation | null = null
  away = false

  submit(request: Request): void {
    if (request.operation === this.holds) this.held.push(request)
    else this.below.submit(request)
  }

  describe(): Record<string, unknown> {
    return {}
  }

  go(where: 'away' | 'back'): void {
    this.away = where === 'away'
    this.update()
  }

  letGo(): void {
    this.holds = null
    for (const request of this.held.splice(0)) this.below.submit(request)
  }

  protected override update(): void {
    if (this.away) this.host!.offline('offline', 'away')
    else super.update()
  }
}

async function rejection(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'succeeded',
    (error: unknown) => (error as { code: string }).code,
  )
}

describe('crypt', () => {
  let folder: string
  let memory: Device
  let gate: Gate
  let device: Device
  let slab: Slab

  /** Makes a device above memory that was formatted; not open yet. */
  async function make(options = {}, key = keyIn(folder)): Promise<Device> {
    memory = new Device('c/m', new MemoryDriver(dataBytes + headerBytes, systemRandom), systemClock)
    await memory.open()
    await format(memory)
    gate = new Gate(memory)
    slab = new Slab()
    device = cryptDevice(new Device('c/device', gate, systemClock), key, { ...options, slab })
    return device
  }

  beforeEach(async () => {
    folder = await temporaryFolder()
  })
  afterEach(async () => {
    await device.close()
    await removeFolder(folder)
  })

  it('leaves the bytes of a write alone, and has ciphertext below', async () => {
    await (await make()).open()
    const data = new SeededRandom(1).bytes(64 * KiB)
    const kept = Buffer.from(data)
    await write(device, 0, data)
    expect(data.equals(kept), 'lent bytes do not change').to.equal(true)
    const below = await read(memory, headerBytes, 64 * KiB)
    expect(below.equals(data)).to.equal(false)
    // The sector decrypts by Node's own XTS with the key that cryptsetup would find.
    const medium = new Medium(memory)
    const stored = await loadHeader(medium)
    if (isFault(stored)) throw new Error(stored.reason)
    const deriver = new Deriver(systemClock)
    const secrets = { passphrase: Buffer.from(passphrase), deriver }
    const { key } = (await unlock(medium, stored, secrets))!
    deriver.close()
    const number = Buffer.alloc(16)
    number.writeUInt32LE(8)
    const sector = createDecipheriv('aes-256-xts', key, number).update(below.subarray(4096, 8192))
    expect(sector.equals(data.subarray(4096, 8192))).to.equal(true)
  })

  it('leaves what the device below keeps alone when it is read', async () => {
    await (await make()).open()
    const data = new SeededRandom(2).bytes(MiB)
    await write(device, 0, data)
    const before = await read(memory, headerBytes, MiB)
    for (let time = 0; time < 3; time++)
      expect((await read(device, 0, MiB)).equals(data), `read ${time}`).to.equal(true)
    expect((await read(memory, headerBytes, MiB)).equals(before)).to.equal(true)
  })

  it('calls nothing zero, and tells of holes only where it passes trims on', async () => {
    for (const discard of [false, true]) {
      await (await make({ discard })).open()
      await write(device, 0, Buffer.alloc(64 * KiB))
      const { flags } = await submit(device, Operation.status, 0, dataBytes)
      expect(flags.some((each) => (each & extentZero) !== 0)).to.equal(false)
      expect(flags.some((each) => (each & extentHole) !== 0)).to.equal(discard)
      expect(device.facts!.trim).to.equal(discard ? 'native' : 'none')
      if (!discard) await device.close()
    }
  })

  it('fails for a wrong key, and serves nothing', async () => {
    await (await make({}, keyIn(folder, 'wrong'))).open()
    expect(device.state.word).to.equal('failed')
    expect(device.state.reason).to.contain('opens no keyslot').and.to.not.contain('wrong')
    expect((await submit(device, Operation.read, 0, 4096)).error).to.not.equal(null)
  })

  it('fails where there is no header, and says how one is made', async () => {
    const bare = new Device('c/m', new MemoryDriver(dataBytes, systemRandom), systemClock)
    device = cryptDevice(bare, keyIn(folder))
    await device.open()
    expect(device.state).to.include({ word: 'failed' })
    expect(device.state.reason).to.contain('dst crypt format')
  })

  it('waits for a key that is not there yet', async () => {
    const path = join(folder, 'later')
    await (await make({}, { kind: 'file', path })).open()
    expect(device.state.word).to.equal('opening')
    writeFileSync(path, passphrase, { mode: 0o600 })
    await until(device, ({ state }) => state.word === 'online')
  })

  it('opens from the second copy of a header, and says so', async () => {
    await make()
    await write(memory, 4200, Buffer.from('damage'))
    await device.open()
    expect(device.state.word).to.equal('online')
    expect(JSON.stringify(device.driver.describe())).to.contain('the first copy is of no use')
    expect(JSON.stringify(device.driver.describe())).to.not.contain(passphrase)
  })

  it('reads the header again when the device below is back, and takes another key', async () => {
    await (await make()).open()
    const old = new SeededRandom(3).bytes(4096)
    await write(device, 0, old)
    const identity = device.facts!.identity
    gate.go('away')
    expect(device.usable).to.equal(false)
    expect(await rejection(write(device, 0, old))).to.equal('UNAVAILABLE')
    await format(memory)
    gate.go('back')
    await until(device, ({ usable }) => usable)
    expect(device.facts!.identity, 'it is another device now').to.not.equal(identity)
    expect((await read(device, 0, 4096)).equals(old)).to.equal(false)
    const data = new SeededRandom(4).bytes(4096)
    await write(device, 0, data)
    expect((await read(device, 0, 4096)).equals(data)).to.equal(true)
  })

  it('decrypts what was under way by the key of its own time', async () => {
    await (await make()).open()
    const old = new SeededRandom(5).bytes(4096)
    await write(device, 0, old)
    const ciphertext = await read(memory, headerBytes, 4096)
    gate.holds = Operation.read
    const reading = submit(device, Operation.read, 0, 4096)
    gate.holds = null
    const held = gate.held.splice(0)
    gate.go('away')
    await format(memory)
    await write(memory, headerBytes, ciphertext)
    gate.go('back')
    await until(device, ({ usable }) => usable)
    for (const request of held) memory.submit(request)
    const { error, data } = await reading
    // An error would be right, too; noise would not.
    if (error === null) expect(data.equals(old)).to.equal(true)
  })

  it('keeps 32 MiB of ciphertext at most, and carries out all that waits', async () => {
    await (await make()).open()
    gate.holds = Operation.write
    const data = new SeededRandom(6).bytes(MiB)
    const writes = Array.from({ length: 80 }, (_, at) => write(device, (at % 8) * MiB, data))
    while (gate.held.length < 32) await new Promise((resolve) => setImmediate(resolve))
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect(gate.held.length).to.equal(32)
    expect(slab.bytesHeld).to.equal(32 * MiB)
    gate.letGo()
    await Promise.all(writes)
    expect((await read(device, 0, MiB)).equals(data)).to.equal(true)
  })

  it('fails writes that wait when the device below goes, and lets go of all bytes', async () => {
    await (await make()).open()
    gate.holds = Operation.write
    const data = Buffer.alloc(MiB)
    const writes = Array.from({ length: 50 }, () => rejection(write(device, 0, data)))
    while (gate.held.length < 32) await new Promise((resolve) => setImmediate(resolve))
    gate.go('away')
    gate.letGo()
    const codes = await Promise.all(writes)
    expect(codes.filter((code) => code === 'UNAVAILABLE')).to.have.length(18)
  })

  it('gives way to others in the middle of a long request', async () => {
    await (await make()).open()
    let turns = 0
    let done = false
    const count = (): void => {
      turns++
      if (!done) setImmediate(count)
    }
    setImmediate(count)
    await write(device, 0, Buffer.alloc(dataBytes))
    done = true
    // A MiB at once, then a MiB or two in each turn of the loop.
    expect(turns).to.be.greaterThan(1)
  })

  it('is closed in the middle of a derivation', async () => {
    await make()
    const long: NewKdf = { kind: 'argon2id', passes: 2, memory: 8 * MiB }
    const deriver = new Deriver(systemClock)
    const medium = new Medium(memory)
    const stored = await loadHeader(medium)
    if (isFault(stored)) throw new Error(stored.reason)
    const secrets = { passphrase: Buffer.from(passphrase), deriver }
    const { key } = (await unlock(medium, stored, secrets))!
    const maker = { medium, deriver, random: systemRandom }
    await addKeyslot(maker, stored, long, { passphrase: Buffer.from('another'), key })
    deriver.close()
    device = cryptDevice(
      new Device('c/again', new Gate(memory), systemClock),
      keyIn(folder, 'no key of it'),
    )
    const opening = device.open()
    await until(device, ({ state }) => state.reason === 'its header is being read')
    await device.close()
    await opening
    expect(device.state.word).to.equal('closed')
  })
})
