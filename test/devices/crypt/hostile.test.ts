import { expect } from 'chai'
import { systemClock } from '../../../src/base/clock.ts'
import { MiB } from '../../../src/base/size.ts'
import { Device } from '../../../src/device/device.ts'
import { Deriver } from '../../../src/devices/crypt/deriver.ts'
import { isFault, type Fault, type Header } from '../../../src/devices/crypt/header.ts'
import { parseLuks1 } from '../../../src/devices/crypt/luks1.ts'
import { encodeCopy, parseCopy } from '../../../src/devices/crypt/luks2.ts'
import { Medium } from '../../../src/devices/crypt/medium.ts'
import { loadHeader } from '../../../src/devices/crypt/store.ts'
import { unlock } from '../../../src/devices/crypt/unlock.ts'
import { MemoryDriver } from '../../../src/devices/memory.ts'
import { read, write } from '../../support/io.ts'
import { mutateJson } from '../../support/json.ts'
import { SeededRandom } from '../../support/seeded.ts'
import { checkBounds, repair } from './bounds.ts'
import { format, passphrase } from './support.ts'

/** Mutations of each kind of header; the seed repeats them. */
const rounds = 4000
const seed = 20_261_201

async function formatted(version: 'luks1' | 'luks2'): Promise<Device> {
  const memory = new MemoryDriver(18 * MiB, new SeededRandom(1))
  const device = new Device('hostile', memory, systemClock)
  await device.open()
  await format(device, { format: version, sectorBytes: 512 })
  return device
}

function check(parse: () => Header | Fault): 'fault' | 'header' {
  const found = parse()
  if (isFault(found)) {
    expect(found.reason).to.not.equal('')
    return 'fault'
  }
  checkBounds(found)
  return 'header'
}

/** The part of the JSON that tests change. */
interface Known {
  readonly keyslots: { readonly 0: { readonly area: { size: string } } }
  readonly segments: { readonly 0: { offset: string } }
  readonly config: { keyslots_size: string }
}

function mutateBytes(bytes: Buffer, random: SeededRandom, within: number): void {
  for (let count = 1 + random.below(4); count > 0; count--) {
    const at = random.below(within)
    const kind = random.below(4)
    if (kind === 0) bytes[at]! ^= 1 << random.below(8)
    else if (kind === 1) bytes[at] = random.below(256)
    else if (kind === 2) bytes.fill(0xff, at, Math.min(within, at + 4))
    else bytes.fill(0, at, Math.min(within, at + 1 + random.below(32)))
  }
}

describe('a hostile LUKS header', () => {
  let one: Device
  let two: Device
  before(async () => {
    one = await formatted('luks1')
    two = await formatted('luks2')
  })
  after(async () => {
    await one.close()
    await two.close()
  })

  it('of version 1 is refused, or keeps to all bounds', async () => {
    const random = new SeededRandom(seed)
    const right = await read(one, 0, 592)
    const counts = { fault: 0, header: 0 }
    for (let round = 0; round < rounds; round++) {
      const bytes = Buffer.from(right)
      mutateBytes(bytes, random, bytes.length)
      counts[check(() => parseLuks1(bytes))]++
    }
    expect(counts.fault).to.be.greaterThan(100)
    expect(counts.header).to.be.greaterThan(100)
  })

  it('of version 2 is refused, or keeps to all bounds, whatever its fields say', async () => {
    const random = new SeededRandom(seed)
    const right = await read(two, 0, 16_384)
    for (let round = 0; round < rounds; round++) {
      const bytes = Buffer.from(right)
      mutateBytes(bytes, random, round % 2 === 0 ? 512 : 5500)
      repair(bytes)
      check(() => {
        const copy = parseCopy(bytes, 0)
        return isFault(copy) ? copy : copy.header
      })
    }
  })

  it('of version 2 is refused, or keeps to all bounds, whatever its JSON says', async () => {
    const random = new SeededRandom(seed)
    const right = await read(two, 0, 16_384)
    const text = right.toString('utf8', 4096, right.indexOf(0, 4096))
    const counts = { fault: 0, header: 0 }
    for (let round = 0; round < rounds; round++) {
      const json: unknown = JSON.parse(text)
      for (let count = 1 + random.below(3); count > 0; count--) mutateJson(json, random)
      const bytes = Buffer.from(right)
      const changed = Buffer.from(JSON.stringify(json))
      if (changed.length > 12_000) continue
      bytes.fill(0, 4096)
      changed.copy(bytes, 4096)
      repair(bytes)
      counts[
        check(() => {
          const copy = parseCopy(bytes, 0)
          return isFault(copy) ? copy : copy.header
        })
      ]++
    }
    expect(counts.fault).to.be.greaterThan(100)
    expect(counts.header).to.be.greaterThan(100)
  })

  /** The first copy with other JSON, and other fields. */
  async function changed(change: (json: Known, bytes: Buffer) => void): Promise<Buffer> {
    const bytes = await read(two, 0, 16_384)
    const json = JSON.parse(bytes.toString('utf8', 4096, bytes.indexOf(0, 4096))) as Known
    change(json, bytes)
    bytes.fill(0, 4096)
    bytes.write(JSON.stringify(json), 4096)
    repair(bytes)
    return bytes
  }

  it('has no keyslot that would fill the memory', async () => {
    const bytes = await changed(({ keyslots, segments, config }) => {
      keyslots[0].area.size = String(2 ** 40)
      config.keyslots_size = String(2 ** 41)
      segments[0].offset = String(2 ** 42)
    })
    expect(parseCopy(bytes, 0)).to.include({ kind: 'unsupported' })
  })

  it('has its keyslots read as far as there are stripes', async () => {
    let most = 0
    const medium = new Medium(two)
    const counting = Object.assign(Object.create(medium) as Medium, {
      read: (offset: number, length: number) => {
        most = Math.max(most, length)
        return medium.read(offset, length)
      },
    })
    const bytes = await changed(({ keyslots }) => {
      keyslots[0].area.size = String(4 * MiB)
    })
    const copy = parseCopy(bytes, 0)
    if (isFault(copy)) throw new Error(copy.reason)
    const deriver = new Deriver(systemClock)
    const stored = { format: 'luks2', ...copy, place: 0, problems: [] } as const
    const secrets = { passphrase: Buffer.from(passphrase), deriver }
    expect(await unlock(counting, stored, secrets)).to.not.equal(null)
    expect(most).to.equal(256_000)
    deriver.close()
  })

  it('may have a label in any language, which is kept', async () => {
    const bytes = await changed((_, fields) => {
      fields.write('Größe', 24)
      // A field may be full to its last byte.
      fields.fill('x', 208, 256)
    })
    const copy = parseCopy(bytes, 0)
    if (isFault(copy)) throw new Error(copy.reason)
    const again = encodeCopy(copy.fields, copy.json, 0)!
    expect(again.subarray(24, 72).equals(bytes.subarray(24, 72))).to.equal(true)
    expect(again.subarray(208, 256).equals(bytes.subarray(208, 256))).to.equal(true)
  })

  it('may be nested as deep as there is room', async () => {
    const bytes = await read(two, 0, 16_384)
    for (const text of ['['.repeat(12_000), '{"a":'.repeat(2400), '{"keyslots":'.repeat(1000)]) {
      bytes.fill(0, 4096)
      bytes.write(text, 4096)
      repair(bytes)
      expect(isFault(parseCopy(bytes, 0)), text.slice(0, 10)).to.equal(true)
    }
  })

  it('asks for no more memory than is free', async () => {
    const deriver = new Deriver(systemClock)
    const salt = Buffer.alloc(32)
    const kdf = { kind: 'argon2id', passes: 1, memory: 2 ** 50, lanes: 1, salt } as const
    const slot = { id: 0, hash: 'sha256', keyBytes: 64, offset: 0, reserved: 256_000 } as const
    const keyslot = { ...slot, kdf, areaKeyBytes: 64, priority: 1 }
    const digest = { hash: 'sha256', iterations: 1, salt, value: salt } as const
    const error = await deriver
      .open(Buffer.from('x'), keyslot, Buffer.alloc(256_000), digest)
      .catch((failed: unknown) => failed)
    expect(error).to.have.property('code', 'BUSY')
    deriver.close()
  })

  it('that lies in both copies sends reads nowhere but into the device', async () => {
    const random = new SeededRandom(seed)
    const medium = new Medium(two)
    const right = await read(two, 0, 32_768)
    for (let round = 0; round < 300; round++) {
      const bytes = Buffer.from(right)
      mutateBytes(bytes.subarray(0, 16_384), random, 300)
      mutateBytes(bytes.subarray(16_384), random, 300)
      repair(bytes.subarray(0, 16_384))
      repair(bytes.subarray(16_384))
      await write(two, 0, bytes)
      // Rejects when something lies beyond the end.
      const found = await loadHeader(medium)
      if (!isFault(found)) checkBounds(found.header)
    }
    await write(two, 0, right)
  })

  it('stands in for a newer one that is not understood in no case', async () => {
    const medium = new Medium(two)
    const right = await read(two, 0, 16_384)
    const bytes = Buffer.from(right)
    const text = bytes.toString('utf8', 4096, bytes.indexOf(0, 4096))
    const changed = text.replace('"config":{', '"config":{"requirements":{"mandatory":["x"]},')
    bytes.write(changed, 4096)
    bytes.writeBigUInt64BE(2n, 16)
    repair(bytes)
    await write(two, 0, bytes)
    // The second copy is whole, but says what was true before.
    expect(await loadHeader(medium)).to.include({ kind: 'unsupported' })
    await write(two, 0, right)
  })
})
