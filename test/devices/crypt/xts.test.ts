import { createCipheriv } from 'node:crypto'
import { expect } from 'chai'
import { KiB } from '../../../src/base/size.ts'
import { Slab } from '../../../src/base/slab.ts'
import { SectorCipher } from '../../../src/devices/crypt/xts.ts'
import { SeededRandom } from '../../support/seeded.ts'

/** The same by Node's own XTS, a sector at a time. */
function byNode(key: Buffer, bytes: Buffer, sectorBytes: number, first: number): Buffer {
  const done: Buffer[] = []
  const number = Buffer.alloc(16)
  for (let at = 0; at < bytes.length; at += sectorBytes) {
    number.writeBigUInt64LE(BigInt(first + at / 512))
    const cipher = createCipheriv(`aes-${key.length * 4}-xts`, key, number)
    done.push(cipher.update(bytes.subarray(at, at + sectorBytes)))
  }
  return Buffer.concat(done)
}

describe('AES-XTS of sectors', () => {
  const random = new SeededRandom(1)
  // From the start, across 2^31 and 2^32 sectors, and at the end of what a number holds exactly.
  const offsets = [0, 4096, 2 ** 40 - 8192, 2 ** 41 - 8192, 2 ** 53 - 2 ** 20]

  for (const keyBytes of [32, 64])
    for (const sectorBytes of [512, 1024, 2048, 4096])
      it(`of ${sectorBytes} bytes with ${keyBytes} bytes of key is that of Node`, () => {
        const key = random.bytes(keyBytes)
        for (const firstSector of [0, 12_345, 2 ** 52]) {
          const cipher = new SectorCipher(key, { sectorBytes, firstSector })
          for (const length of [sectorBytes, 3 * 4096, 32 * KiB, 160 * KiB + 4096])
            for (const offset of offsets) {
              if (firstSector + offset / 512 > 2 ** 52 + 2 ** 44) continue
              const plain = random.bytes(length)
              const bytes = Buffer.from(plain)
              cipher.encrypt(bytes, offset)
              const right = byNode(key, plain, sectorBytes, firstSector + offset / 512)
              expect(bytes.equals(right), `${length} at ${offset}`).to.equal(true)
              cipher.decrypt(bytes, offset)
              expect(bytes.equals(plain)).to.equal(true)
            }
        }
      })

  it('touches no byte beside them, also in memory that others share', () => {
    const cipher = new SectorCipher(random.bytes(64), { sectorBytes: 512, firstSector: 0 })
    const block = new Slab().take(64 * KiB)
    block.bytes.fill(7)
    cipher.encrypt(block.bytes.subarray(1024, 1024 + 33 * KiB), 0)
    expect(block.bytes.subarray(0, 1024).every((byte) => byte === 7)).to.equal(true)
    expect(block.bytes.subarray(34 * KiB).every((byte) => byte === 7)).to.equal(true)
  })

  it('refuses a key whose halves are equal: a block would cancel its own tweak', () => {
    const half = random.bytes(32)
    const make = () =>
      new SectorCipher(Buffer.concat([half, half]), { sectorBytes: 512, firstSector: 0 })
    expect(make).to.throw('equal')
  })
})
