import path from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { MiB } from '../../src/base/size.ts'
import { Slab } from '../../src/base/slab.ts'
import { Device, type Driver } from '../../src/device/device.ts'
import { ErrorDriver } from '../../src/devices/faults/error.ts'
import { FileDriver } from '../../src/devices/file/file.ts'
import { LinearDriver } from '../../src/devices/linear.ts'
import { MirrorDriver } from '../../src/mirror/mirror.ts'
import { nbdLeaf } from '../nbd/leaf.ts'
import { Rig } from '../nbd/rig.ts'
import { conformance, type Subject } from '../support/conformance.ts'
import { removeFolder, temporaryFolder } from '../support/files.ts'
import { StrictDriver } from '../support/strict.ts'
import { remote, Target } from '../wire/rig.ts'
import { SeededRandom } from '../support/seeded.ts'
import { MemoryStore } from '../support/memory-store.ts'

const random = new SeededRandom(1)
const slab = new Slab()

/** Makes a driver of about `size` bytes that keeps its files, if any, in `folder`. */
type Make = (size: number, folder: string) => Driver

function file(folder: string, name: string, size: number, direct = false): Driver {
  const options = { path: path.join(folder, name), size, create: true, direct }
  return new FileDriver(options, slab, systemClock)
}

function device(name: string, driver: Driver): Device {
  return new Device(name, driver, systemClock)
}

function mirror(legs: readonly Driver[]): Driver {
  return new MirrorDriver({
    legs: legs.map((leg, at) => ({ name: String(at), device: device(`m/${at}`, leg) })),
    clock: systemClock,
    random,
    log: silentLog,
    store: new MemoryStore(),
    key: 'm',
    settings: {},
  })
}

/** Leaves and compositions on what is slow, coarse and poor, which no memory shows. */
const made: Readonly<Record<string, Make>> = {
  'a file': (size, folder) => file(folder, 'image', size),
  'a file, direct': (size, folder) => file(folder, 'image', size, true),
  'a linear of a file and a direct one': (size, folder) => {
    const parts = [file(folder, '0', size / 2), file(folder, '1', size / 2, true)]
    return new LinearDriver(parts.map((part, at) => device(`l/${at}`, part)))
  },
  'a mirror of two files': (size, folder) =>
    mirror([file(folder, '0', size + 2 * MiB), file(folder, '1', size + 2 * MiB)]),
  'an error layer over a driver that can do little': (size) => {
    const limits = { blockSize: 512, payloadMax: 65_536, trim: 'none', fua: 'emulated' } as const
    const poor = new StrictDriver(size, { ...limits, writeZeroes: 'emulated' }, random)
    return new ErrorDriver(device('e/0', poor), { probability: 0 }, random)
  },
}

async function overDst(driver: Driver): Promise<Subject> {
  const target = new Target()
  await target.add('it', driver)
  await target.start()
  const leaf = remote(target.tcp, 'it')
  await leaf.open()
  return { device: leaf, dispose: () => target.stop() }
}

async function overNbd(driver: Driver): Promise<Subject> {
  const rig = new Rig()
  await rig.add('it', driver)
  await rig.listen()
  const leaf = nbdLeaf(rig.unix, 'it')
  await leaf.open()
  return { device: leaf, dispose: () => rig.close() }
}

for (const [name, make] of Object.entries(made))
  for (const [protocol, over] of [
    ['DST/1', overDst],
    ['NBD', overNbd],
  ] as const)
    conformance(`${name}, over ${protocol},`, async (size) => {
      const folder = await temporaryFolder(true)
      const subject = await over(make(size, folder))
      const dispose = async (): Promise<void> => {
        await subject.dispose()
        await removeFolder(folder)
      }
      return { device: subject.device, dispose }
    })
