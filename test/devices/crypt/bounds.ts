import { createHash } from 'node:crypto'
import { expect } from 'chai'
import { GiB, MiB } from '../../../src/base/size.ts'
import type { Header } from '../../../src/devices/crypt/header.ts'

/** Whatever a header says, what is taken from it is within these bounds. */
export function checkBounds(header: Header): void {
  const { payload, size, firstSector, keyslots, digest, keyBytes } = header
  for (const number of [payload, size ?? 512, firstSector])
    expect(Number.isSafeInteger(number) && number >= 0).to.equal(true)
  expect(keyBytes).to.be.oneOf([32, 64])
  expect(keyslots.length).to.be.at.most(32)
  expect(digest.iterations).to.be.within(1, 100_000_000)
  expect(digest.salt.length).to.be.within(8, 400)
  for (const { offset, reserved, kdf, areaKeyBytes } of keyslots) {
    expect(offset).to.be.at.least(592)
    expect(reserved).to.be.at.least(keyBytes * 4000)
    expect(offset + reserved).to.be.at.most(payload)
    expect(reserved).to.be.at.most(128 * MiB)
    expect(areaKeyBytes).to.be.oneOf([32, 64])
    if (kdf.kind === 'pbkdf2') expect(kdf.iterations).to.be.within(1, 100_000_000)
    else {
      expect(kdf.memory).to.be.within(8192, GiB)
      expect(kdf.memory * kdf.passes).to.be.at.most(16 * GiB)
      expect(kdf.lanes).to.be.within(1, 255)
    }
  }
}

/** Puts the right checksum on a copy, so that what is behind it is looked at. */
export function repair(bytes: Buffer): void {
  bytes.fill(0, 448, 512)
  createHash('sha256').update(bytes).digest().copy(bytes, 448)
}
