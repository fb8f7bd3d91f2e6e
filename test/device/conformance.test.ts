import path from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { SeededRandom } from '../../src/base/random.ts'
import { Slab } from '../../src/base/slab.ts'
import { Device } from '../../src/device/device.ts'
import { LinearDriver } from '../../src/device/linear.ts'
import { MemoryDriver } from '../../src/device/memory.ts'
import { conformance, type Subject } from '../support/conformance.ts'
import { fileDevice, removeFolder, temporaryFolder } from '../support/files.ts'

const random = new SeededRandom(1)

function memory(path: string, size: number): Device {
  return new Device(path, new MemoryDriver(size, random), systemClock)
}

async function opened(device: Device): Promise<Subject> {
  await device.open()
  return { device, dispose: () => undefined }
}

conformance('memory', (size) => opened(memory('memory', size)))

conformance('a linear of memories', (size) => {
  const parts = [memory('l/0', 1_000_000), memory('l/1', 12_345), memory('l/2', size)]
  return opened(new Device('l', new LinearDriver(parts), systemClock))
})

conformance('a linear of linears', (size) => {
  const inner = new LinearDriver([memory('l/0/0', 65_536), memory('l/0/1', size / 2)])
  const parts = [new Device('l/0', inner, systemClock), memory('l/1', size / 2)]
  return opened(new Device('l', new LinearDriver(parts), systemClock))
})

for (const direct of [false, true]) {
  const kind = direct ? 'direct' : 'buffered'

  conformance(`a file, ${kind}`, async (size) => {
    const folder = await temporaryFolder(direct)
    const slab = new Slab()
    const options = { path: path.join(folder, 'image'), size, create: true, direct }
    const device = fileDevice('file', options, slab)
    await device.open()
    return { device, slabs: [slab], dispose: () => removeFolder(folder) }
  })

  conformance(`a linear of files, ${kind}`, async (size) => {
    const folder = await temporaryFolder(direct)
    const slab = new Slab()
    const parts = [size / 2, 4096, size / 2].map((bytes, index) => {
      const image = path.join(folder, String(index))
      return fileDevice(`l/${index}`, { path: image, size: bytes, create: true, direct }, slab)
    })
    const device = new Device('l', new LinearDriver(parts), systemClock)
    await device.open()
    return { device, slabs: [slab], dispose: () => removeFolder(folder) }
  })
}
