import path from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { Slab } from '../../src/base/slab.ts'
import { silentLog } from '../../src/base/log.ts'
import { Device } from '../../src/device/device.ts'
import { DelayDriver } from '../../src/devices/faults/delay.ts'
import { ErrorDriver } from '../../src/devices/faults/error.ts'
import { LogDriver } from '../../src/devices/faults/log.ts'
import { LinearDriver } from '../../src/devices/linear.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { conformance, type Subject } from '../support/conformance.ts'
import { fileDevice, removeFolder, temporaryFolder } from '../support/files.ts'
import { SeededRandom } from '../support/seeded.ts'

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

conformance('an error layer that hits nothing', (size) => {
  const driver = new ErrorDriver(memory('e/0', size), { probability: 0 }, random)
  return opened(new Device('e', driver, systemClock))
})

conformance('a delay layer', (size) => {
  const driver = new DelayDriver(memory('d/0', size), { min: 0, max: 1 }, systemClock, random)
  return opened(new Device('d', driver, systemClock))
})

conformance('a log layer', (size) => {
  const driver = new LogDriver(memory('g/0', size), { level: 'debug' }, silentLog, systemClock)
  return opened(new Device('g', driver, systemClock))
})
