import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '../../../src/base/clock.ts'
import { systemRandom } from '../../../src/base/random.ts'
import { Slab } from '../../../src/base/slab.ts'
import { Device } from '../../../src/device/device.ts'
import { CryptDriver, type CryptOptions } from '../../../src/devices/crypt/crypt.ts'
import { Deriver } from '../../../src/devices/crypt/deriver.ts'
import { formatDevice, type NewDevice } from '../../../src/devices/crypt/format.ts'
import { Medium } from '../../../src/devices/crypt/medium.ts'

/** A derivation that costs next to nothing. */
export const quick = { kind: 'pbkdf2', iterations: 1000 } as const

export const passphrase = 'a passphrase of tests'

/** Bytes that a header takes, at most. */
export const headerBytes = 16 * 1024 * 1024

/** Formats a device that is open. */
export async function format(device: Device, how: Partial<NewDevice> = {}): Promise<void> {
  const deriver = new Deriver(systemClock)
  const maker = { medium: new Medium(device), deriver, random: systemRandom }
  const usual = { format: 'luks2', sectorBytes: 4096, kdf: quick } as const
  await formatDevice(maker, { ...usual, passphrase: Buffer.from(passphrase), ...how })
  deriver.close()
}

/** Writes the passphrase to a file of its own and returns where from it is read. */
export function keyIn(folder: string, text = passphrase): CryptOptions['key'] {
  const path = join(folder, 'key')
  writeFileSync(path, text, { mode: 0o600 })
  return { kind: 'file', path }
}

/** A device that encrypts `below`; not open yet. */
export function cryptDevice(
  below: Device,
  key: CryptOptions['key'],
  { discard = false, slab = new Slab() } = {},
): Device {
  const driver = new CryptDriver(below, { key, discard }, { slab, clock: systemClock })
  return new Device('c', driver, systemClock)
}

/** Resolves once the device is in a state that the test waits for. */
export function until(device: Device, reached: (device: Device) => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (!reached(device)) return
      device.unwatch(look)
      resolve()
    }
    device.watch(look)
    look()
  })
}
