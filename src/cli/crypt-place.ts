import { resolve } from 'node:path'
import { systemClock } from '../base/clock.ts'
import { systemRandom } from '../base/random.ts'
import { Slab } from '../base/slab.ts'
import { Device } from '../device/device.ts'
import { Deriver } from '../devices/crypt/deriver.ts'
import type { Maker } from '../devices/crypt/keyslots.ts'
import { Medium } from '../devices/crypt/medium.ts'
import { FileDriver } from '../devices/file/file.ts'
import { openExport } from './open.ts'

/** What commands work with: the device that has the header, and what derives keys. */
export type Tools = Maker

/** The purpose of an opening: reading takes no lock, because a target may use the file. */
interface Use {
  readonly use: 'look' | 'change'
  /** Bytes of a file that is made; null or absent for one that is there. */
  readonly size?: number | null
}

/** Opens a file, a disk or an export, runs the task, and closes it. */
export async function withPlace(
  place: string,
  use: Use,
  task: (tools: Tools) => Promise<void>,
): Promise<void> {
  const device = place.includes('://') ? await openExport(place) : await openFile(place, use)
  const deriver = new Deriver(systemClock)
  try {
    await task({ medium: new Medium(device), deriver, random: systemRandom })
  } finally {
    deriver.close()
    await device.close()
  }
}

async function openFile(place: string, { use, size = null }: Use): Promise<Device> {
  const path = resolve(place)
  const options = {
    ...{ path, grow: false, direct: false, readOnly: use === 'look', create: size !== null },
    ...(size === null ? {} : { size }),
  }
  const device = new Device(place, new FileDriver(options, new Slab(), systemClock), systemClock)
  await device.open()
  return device
}
