import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { KiB, roundUp } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { LinearDriver } from '../../src/devices/linear.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { metadataBytes, pageBytes, slotsFor } from '../../src/mirror/layout.ts'
import { MirrorDriver } from '../../src/mirror/mirror.ts'
import type { MirrorSettings } from '../../src/mirror/settings.ts'
import { conformance, type Subject } from '../support/conformance.ts'
import { SeededRandom } from '../support/seeded.ts'
import { MemoryStore } from '../support/memory-store.ts'

const random = new SeededRandom(3)
const extentSize = 64 * KiB

function memory(path: string, size: number): Device {
  return new Device(path, new MemoryDriver(size, random), systemClock)
}

/** What a leg must have for a volume of `size` bytes. */
function legBytes(size: number): number {
  return (
    roundUp(size, pageBytes) + metadataBytes({ dataSize: size, extentSize, slots: slotsFor(2) })
  )
}

function mirror(path: string, legs: Device[], settings: Partial<MirrorSettings> = {}): Device {
  const names = ['left', 'right']
  const driver = new MirrorDriver({
    legs: legs.map((device, at) => ({ name: names[at]!, device })),
    clock: systemClock,
    random,
    log: silentLog,
    store: new MemoryStore(),
    key: 'm',
    settings: { extentSize, ...settings },
  })
  return new Device(path, driver, systemClock)
}

async function opened(device: Device): Promise<Subject> {
  await device.open()
  return { device, dispose: () => undefined }
}

conformance('a mirror of memories', (size) => {
  const bytes = legBytes(size)
  return opened(mirror('m', [memory('m/left', bytes), memory('m/right', bytes)]))
})

conformance('a mirror without an intent log', (size) => {
  const bytes = legBytes(size)
  const legs = [memory('m/left', bytes), memory('m/right', bytes)]
  return opened(mirror('m', legs, { intentLog: false }))
})

conformance('a mirror of a linear and a mirror', (size) => {
  const bytes = legBytes(size)
  const inner = legBytes(bytes)
  const parts = [memory('m/left/0', 64 * KiB), memory('m/left/1', bytes - 64 * KiB)]
  const linear = new Device('m/left', new LinearDriver(parts), systemClock)
  const nested = mirror('m/right', [memory('m/right/left', inner), memory('m/right/right', inner)])
  return opened(mirror('m', [linear, nested]))
})
