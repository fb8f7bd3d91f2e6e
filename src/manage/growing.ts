import { StorageError } from '../base/errors.ts'
import { describeSize } from '../base/size.ts'
import type { Device } from '../device/device.ts'
import { Layer } from '../devices/faults/layer.ts'
import { FileDriver } from '../devices/file/file.ts'
import type { MirrorDriver } from '../mirror/mirror.ts'
import { flush } from '../daemon/flush.ts'
import type { Target } from '../daemon/target.ts'

/** The answer to `dst leg grow` and `dst volume grow`. */
export interface Growth {
  /** Bytes of the volume. */
  readonly size: number
  /** Says what keeps the volume from being larger. */
  readonly reason: string
  /** Says what the configuration does not have yet; '' if it has all. */
  readonly warning: string
}

/** Makes a leg serve `bytes`, or all that is there if null, and grows the volume if it can. */
export async function growLeg(
  target: Target,
  volume: MirrorDriver,
  name: string,
  bytes: number | null,
): Promise<Growth> {
  const warning = await enlarge(target, legNamed(target, volume, name), bytes)
  return { ...(await volume.growNow()), warning }
}

/** Makes every leg hold a volume of `bytes`, or serve all that is there if it is null. */
export async function growVolume(
  target: Target,
  volume: MirrorDriver,
  bytes: number | null,
): Promise<Growth> {
  const wishes = volume.children.map((device) => ({
    device,
    bytes: bytes === null ? null : volume.legBytesFor(target.tree.labelOf(device), bytes),
  }))
  const small = wishes.filter(
    ({ device, bytes: needed }) => needed === null || (device.facts?.size ?? 0) < needed,
  )
  // Enlarge all legs or none: an operator would have to undo a half by hand.
  for (const { device, bytes: needed } of small) if (needed !== null) mustBeFile(device, needed)
  const warnings: string[] = []
  for (const { device, bytes: needed } of small) {
    const more = needed !== null || hasMore(device)
    if (more) warnings.push(await enlarge(target, device, needed))
  }
  const growth = await volume.growNow(bytes ?? 0)
  warnings.push(volume.sizeWarning)
  return { ...growth, warning: warnings.filter((text) => text !== '').join('\n') }
}

function hasMore(device: Device): boolean {
  const file = fileOf(device)
  return file !== null && typeof file.driver.describe()['bytesUnused'] === 'number'
}

function legNamed(target: Target, volume: MirrorDriver, name: string): Device {
  const device = volume.children.find((leg) => target.tree.labelOf(leg) === name)
  if (device !== undefined) return device
  const names = volume.children.map((leg) => target.tree.labelOf(leg))
  throw new StorageError('CONFIG', `there is no leg ${name}; the legs are ${names.join(', ')}`)
}

async function enlarge(target: Target, leg: Device, bytes: number | null): Promise<string> {
  const { device, driver } = mustBeFile(leg, bytes)
  let warning = ''
  // Called before the file is larger: a start in between must know both sizes.
  const agreed = async (size: number): Promise<void> => {
    warning = await target.grown.note(device.path, size)
  }
  await driver.grow(bytes, agreed, async () => {
    const error = await flush(device)
    if (error !== null) throw error
  })
  return warning
}

function mustBeFile(leg: Device, bytes: number | null): FileDevice {
  const file = fileOf(leg)
  if (file !== null) return file
  const { type } = leg.driver
  const what = ways[type] ?? `it is a ${type}`
  const size = bytes === null ? '' : `; ${describeSize(bytes)} (${bytes} bytes) are needed`
  throw new StorageError('CONFIG', `${what}${size}`, leg.path)
}

/** Says how to enlarge a leg that is no file. */
const ways: Readonly<Record<string, string>> = {
  memory: 'a memory does not grow: `dst leg add` a larger one and remove this',
  linear: 'a linear does not grow while it runs: `dst leg add` a larger one and remove this',
  remote: 'enlarge what it exports on its own machine: that is noticed here by itself',
  nbd: 'enlarge what it exports on its own machine, and have it reconnect',
}

interface FileDevice {
  readonly device: Device
  readonly driver: FileDriver
}

/** The file of a leg, also below layers; null if the leg is no file. */
function fileOf(device: Device): FileDevice | null {
  const { driver } = device
  if (driver instanceof FileDriver) return { device, driver }
  return driver instanceof Layer ? fileOf(driver.children[0]) : null
}
