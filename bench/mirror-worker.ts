import { join } from 'node:path'
import { systemClock } from '../src/base/clock.ts'
import { silentLog } from '../src/base/log.ts'
import { systemRandom } from '../src/base/random.ts'
import { GiB, KiB, MiB, TiB } from '../src/base/size.ts'
import { Slab } from '../src/base/slab.ts'
import { Device } from '../src/device/device.ts'
import { FileDriver } from '../src/device/file.ts'
import { MemoryDriver } from '../src/device/memory.ts'
import { carryOut, fill } from '../src/device/load.ts'
import { Operation } from '../src/device/request.ts'
import { metadataBytes, slotsFor } from '../src/mirror/layout.ts'
import { MirrorDriver } from '../src/mirror/mirror.ts'
import type { ResyncSummary } from '../src/mirror/record.ts'
import { mirrorDefaults, type MirrorSettings } from '../src/mirror/settings.ts'
import { MemoryStore } from '../src/base/store.ts'
import { parseUri } from '../src/net/address.ts'
import { SocketNetwork } from '../src/net/sockets.ts'
import { defaultRemoteOptions } from '../src/wire/remote-options.ts'
import { RemoteDriver } from '../src/wire/remote.ts'
import { PlainCopy } from './copy.ts'
import type { MirrorFound } from './mirror-suite.ts'

/**
 * A mirror of two in this process: what a resync costs beside a plain copy between the same two
 * devices, and how much it copies and holds. Started by `mirror-suite.ts`: where the legs are
 * (`memory`, `file` with a folder, or `remote` with two URIs), bytes of the volume, rounds.
 */
const [, , kind, sizeText, roundsText, ...places] = process.argv
const size = Number(sizeText)
const rounds = Number(roundsText)

const slab = new Slab()
const legExtra = 16 * MiB
const { resyncWindow, resyncChunkBytes, extentSize } = mirrorDefaults
/** Extents of the sparse map, spread over the volume. */
const sparseExtents = 16

function leg(at: number): Device {
  const name = `leg${at}`
  const bytes = size + legExtra
  if (kind === 'memory') return memory(name, bytes)
  if (kind === 'file') {
    const path = join(places[0]!, name)
    const options = { path, size: bytes, create: true }
    return new Device(name, new FileDriver(options, slab, systemClock), systemClock)
  }
  const uri = parseUri(places[at]!)
  if (typeof uri === 'string') throw new Error(uri)
  const { address, name: exported } = uri
  const world = {
    network: new SocketNetwork(),
    slab,
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
  }
  const options = { ...defaultRemoteOptions, address, name: exported }
  return new Device(name, new RemoteDriver(options, world), systemClock)
}

function memory(name: string, bytes: number): Device {
  return new Device(name, new MemoryDriver(bytes, systemRandom), systemClock)
}

function mirrorOf(
  legs: readonly Device[],
  settings: Partial<MirrorSettings>,
): [Device, MirrorDriver] {
  const driver = new MirrorDriver({
    legs: legs.map((device, at) => ({ name: `leg${at}`, device })),
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    store: new MemoryStore(),
    key: 'bench',
    settings,
  })
  return [new Device('bench', driver, systemClock), driver]
}

function write(device: Device, offset: number, payload: Buffer): Promise<void> {
  return carryOut(device, Operation.write, offset, payload)
}

async function measured(task: () => Promise<unknown>): Promise<{ seconds: number; cpu: number }> {
  const cpu = process.cpuUsage()
  const began = performance.now()
  await task()
  const seconds = (performance.now() - began) / 1000
  const used = process.cpuUsage(cpu)
  return { seconds, cpu: (used.user + used.system) / 1e6 }
}

/** The summary of the resync that ends next, after `entries` of the history. */
async function nextResync(driver: MirrorDriver, entries: number): Promise<ResyncSummary> {
  for (;;) {
    const done = driver.history().slice(entries)
    const found = done.find(({ resync }) => resync !== undefined && resync.kind !== 'verify')
    if (found?.resync !== undefined) return found.resync
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

async function main(): Promise<MirrorFound> {
  const legs = [leg(0), leg(1)]
  const [device, driver] = mirrorOf(legs, { size })
  await device.open()
  await fill(device, systemRandom)
  const resyncs: MirrorFound['resyncs'][number][] = []
  const whole = async (): Promise<void> => {
    const before = driver.history().length
    await driver.invalidateLeg('leg1')
    const { bytes, outcome } = await nextResync(driver, before)
    if (bytes < size) throw new Error(`a resync of ${bytes} bytes: ${outcome}`)
  }
  // A resync is over when what it copied is on stable storage, and so is a copy.
  const copy = async (): Promise<void> => {
    await new PlainCopy(legs[0]!, legs[1]!, size, resyncChunkBytes).run(resyncWindow)
    await carryOut(legs[1]!, Operation.flush, 0, null)
  }
  // What is compiled first is not the cost of either.
  await copy()
  await whole()
  let held = 0
  for (let round = 0; round < rounds; round++) {
    // Now the one first, now the other.
    const before = round % 2 === 0 ? await measured(copy) : null
    const idle = slab.bytesHeld
    slab.bytesHeldPeak = idle
    const resync = await measured(whole)
    held = Math.max(held, slab.bytesHeldPeak - idle)
    resyncs.push({ resync, plain: before ?? (await measured(copy)) })
  }
  const sparse = await copySparse(device, driver)
  await device.close()
  return { resyncs, size, held, heldBound: resyncWindow * resyncChunkBytes, sparse }
}

/** Detaches a leg, writes a block into some extents, and attaches it again. */
async function copySparse(device: Device, driver: MirrorDriver): Promise<MirrorFound['sparse']> {
  await driver.detachLeg('leg1')
  const extents = size / extentSize
  const step = Math.floor(extents / sparseExtents)
  for (let n = 0; n < sparseExtents; n++)
    await write(device, n * step * extentSize + 64 * KiB, Buffer.alloc(4 * KiB, 0x77))
  const before = driver.history().length
  await driver.attachLeg('leg1')
  const { bytes } = await nextResync(driver, before)
  return { dirtyBytes: sparseExtents * extentSize, copiedBytes: bytes }
}

/**
 * Writes of metadata for each extent and leg when every extent of a new volume is written to for
 * the first time: one after the other, and many at once.
 */
async function writeCold(): Promise<{ alone: number; together: number }> {
  const extents = size / extentSize
  const payload = Buffer.alloc(4 * KiB, 0x11)
  const count = async (together: number): Promise<number> => {
    const legs = [0, 1].map((at) => memory(`cold${at}`, size + legExtra))
    const [device] = mirrorOf(legs, { size })
    await device.open()
    const writes = (): number => legs[0]!.counters.operations[Operation.write]!
    const before = writes()
    for (let extent = 0; extent < extents; extent += together)
      await Promise.all(
        Array.from({ length: together }, (_, n) =>
          write(device, (extent + n) * extentSize, payload),
        ),
      )
    const metadata = writes() - before - extents
    await device.close()
    return metadata / extents
  }
  return { alone: await count(1), together: await count(32) }
}

/** Bytes behind buffers, after what nobody needs was collected; that goes on in the background. */
async function buffersInUse(): Promise<number> {
  for (let n = 0; n < 4; n++) {
    global.gc?.()
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return process.memoryUsage().arrayBuffers
}

/**
 * What one more TiB costs at the default extent size: the maps that a volume has in memory, and
 * those on its legs. Measured on volumes of a sixteenth with extents of a sixteenth: as many bits.
 */
async function measureMaps(): Promise<Pick<MirrorFound, 'mapBytes' | 'legBytes'>> {
  const share = 16
  const fine = { extentSize: extentSize / share }
  const open = async (bytes: number): Promise<number> => {
    const legs = [0, 1].map((at) => memory(`map${at}`, bytes + GiB))
    const before = await buffersInUse()
    const [device, driver] = mirrorOf(legs, { ...fine, size: bytes })
    await device.open()
    // A leg that has left has a dirty map and the set of what it had not flushed.
    await driver.detachLeg('leg1')
    await write(device, 0, Buffer.alloc(4 * KiB, 1))
    const used = (await buffersInUse()) - before
    await device.close()
    return used
  }
  // Whatever is made once is made now.
  await open(TiB / share)
  const small = await open(TiB / share)
  const large = await open((5 * TiB) / share)
  const slots = slotsFor(2)
  const onLeg = (dataSize: number): number => metadataBytes({ dataSize, extentSize, slots })
  const legBytes = (onLeg(5 * TiB) - onLeg(TiB)) / 4
  // These legs are in memory, too, with what was written to them.
  return { mapBytes: (large - small) / 4 - 2 * legBytes, legBytes }
}

const inMemory = kind === 'memory'
// First, while there is nothing else in memory that could go meanwhile.
const maps = inMemory ? await measureMaps() : {}
const found = await main()
const more = inMemory ? { ...maps, cold: await writeCold() } : {}
process.stdout.write(JSON.stringify({ ...found, ...more }), () => process.exit(0))
