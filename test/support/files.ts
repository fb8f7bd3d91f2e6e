import fs from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { Slab } from '../../src/base/slab.ts'
import { Device } from '../../src/device/device.ts'
import { FileDriver, type FileOptions } from '../../src/devices/file/file.ts'

/**
 * A folder of its own. `direct` access needs a real disk: where the project is rather than where
 * temporary files go, which may be memory.
 */
export async function temporaryFolder(direct = false): Promise<string> {
  return fs.mkdtemp(path.join(direct ? import.meta.dirname : os.tmpdir(), 'dst-'))
}

export async function removeFolder(folder: string): Promise<void> {
  await fs.rm(folder, { recursive: true })
}

/** A device over a file; `slab` is its own unless it is handed in. */
export function fileDevice(name: string, options: FileOptions, slab = new Slab()): Device {
  return new Device(name, new FileDriver(options, slab, systemClock), systemClock)
}
