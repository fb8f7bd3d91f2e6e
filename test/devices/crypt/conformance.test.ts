import { join } from 'node:path'
import { systemClock } from '../../../src/base/clock.ts'
import { SeededRandom } from '../../support/seeded.ts'
import { Slab } from '../../../src/base/slab.ts'
import { Device } from '../../../src/device/device.ts'
import { CryptDriver } from '../../../src/devices/crypt/crypt.ts'
import { LinearDriver } from '../../../src/devices/linear.ts'
import { MemoryDriver } from '../../../src/devices/memory.ts'
import { conformance } from '../../support/conformance.ts'
import { fileDevice, removeFolder, temporaryFolder } from '../../support/files.ts'
import { format, headerBytes, keyIn } from './support.ts'

/** Memory that is formatted before the device above opens it, which opens it once more. */
class Formatted extends MemoryDriver {
  override close(): Promise<void> {
    return Promise.resolve()
  }
}

for (const [name, options] of Object.entries({
  luks2: { format: 'luks2', sectorBytes: 4096 },
  'luks2 with sectors of 512 bytes': { format: 'luks2', sectorBytes: 512 },
  luks1: { format: 'luks1', sectorBytes: 512 },
} as const))
  for (const discard of [false, true])
    conformance(`crypt, ${name}${discard ? ' with discards' : ''}, of memory`, async (size) => {
      const folder = await temporaryFolder()
      const slab = new Slab()
      const driver = new Formatted(size + headerBytes, new SeededRandom(1))
      const bare = new Device('c/device', driver, systemClock)
      await bare.open()
      await format(bare, options)
      const below = new Device('c/device', driver, systemClock)
      const world = { slab, clock: systemClock }
      const device = new Device(
        'c',
        new CryptDriver(below, { key: keyIn(folder), discard }, world),
        systemClock,
      )
      await device.open()
      return { device, dispose: () => removeFolder(folder) }
    })

for (const direct of [false, true])
  conformance(`crypt of a file, ${direct ? 'direct' : 'buffered'}`, async (size) => {
    const folder = await temporaryFolder(direct)
    const slab = new Slab()
    const path = join(folder, 'image')
    const options = { path, size: size + headerBytes, create: true, direct }
    const bare = fileDevice('bare', options)
    await bare.open()
    await format(bare)
    await bare.close()
    const below = fileDevice('c/device', options, slab)
    const driver = new CryptDriver(
      below,
      { key: keyIn(folder), discard: true },
      { slab, clock: systemClock },
    )
    const device = new Device('c', driver, systemClock)
    await device.open()
    return { device, slabs: [slab], dispose: () => removeFolder(folder) }
  })

conformance('crypt of a linear, whose parts end within a sector', async (size) => {
  const folder = await temporaryFolder()
  const slab = new Slab()
  const drivers = [headerBytes + 4096, 12_288, size].map(
    (bytes) => new Formatted(bytes + 512, new SeededRandom(bytes)),
  )
  const linear = (): Device => {
    const parts = drivers.map((driver, at) => new Device(`c/device/${at}`, driver, systemClock))
    return new Device('c/device', new LinearDriver(parts), systemClock)
  }
  const bare = linear()
  await bare.open()
  await format(bare)
  const options = { key: keyIn(folder), discard: true }
  const driver = new CryptDriver(linear(), options, { slab, clock: systemClock })
  const device = new Device('c', driver, systemClock)
  await device.open()
  return { device, dispose: () => removeFolder(folder) }
})
