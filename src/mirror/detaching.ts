import { Bitmap } from '../base/bitmap.ts'
import { StorageError } from '../base/errors.ts'
import { announce } from './announce.ts'
import { allPages, writeMaps } from './data/dirty.ts'
import { flushLeg } from './data/flushing.ts'
import { LockedRange } from './data/locked.ts'
import { within } from './deadline.ts'
import { leave } from './departure.ts'
import type { Geometry } from './layout.ts'
import type { Leg } from './leg.ts'
import { holding, legNamed, mustRun, mustSpare, refuse, removeLeg, stampOf } from './manage.ts'
import { labelMax } from './record.ts'
import { inspect, mustBeAsItLeft } from './returning.ts'
import { giveUp } from './start/claims.ts'
import type { Volume } from './volume.ts'

/** The commands that take a leg off as an image. */

/**
 * Detaches a leg as a consistent image: writes drain, it is flushed, and its superblock says so.
 * Rejects with CONFIG if it cannot be spared or left before, and with UNAVAILABLE if writes to it
 * are still under way: then it is given up once they are over.
 */
export async function detachLeg(
  volume: Volume,
  name: string,
  options: { readonly as?: string },
): Promise<void> {
  const leg = await takeOff(volume, name, options.as ?? name)
  try {
    await stampDetached(volume, leg)
  } finally {
    // Its leaving is durable, also if its superblock does not say so.
    await giveUp(volume, leg)
  }
}

/** Takes the leg out as detached; it stays claimed. Resolves when that is durable. */
async function takeOff(volume: Volume, name: string, label: string): Promise<Leg> {
  mustRun(volume)
  const leg = legNamed(volume, name)
  if (!volume.readable.includes(leg))
    throw refuse(volume, `${name} is not in sync, so it is not a whole image`)
  mustSpare(volume, leg)
  if (label.length > labelMax) throw refuse(volume, `a name has at most ${labelMax} characters`)
  const { membership } = volume
  await holding(volume, leg, () =>
    volume.jobs.quiet(() => alone(volume, () => drainAndLeave(volume, leg, label))),
  )
  if (membership.over() || leg.member?.state !== 'detached') {
    // The next start does not know that it left, or will say so.
    if (leg.member?.state === 'detached') {
      leg.member.state = 'missing'
      volume.remember('operator', name, 'not detached for certain: the volume stopped before')
    }
    throw refuse(volume, `${name} left before it could be detached`)
  }
  announce(volume)
  return leg
}

/**
 * Writes to the leg that it is detached, and remembers the stamp of its content. A leg put back
 * meanwhile to what it was before would be taken for what it was when it left.
 */
async function stampDetached(volume: Volume, leg: Leg): Promise<void> {
  mustBeAsItLeft(leg)
  try {
    await markDetached(volume, leg)
  } finally {
    // What took too long was given up, and may land later.
    if (leg.changing) throw writesUnderWay(leg)
  }
  const stamp = await stampOf(volume, leg)
  mustBeAsItLeft(leg)
  leg.member!.stamp = stamp
  volume.membership.request('record')
  await volume.membership.settled()
}

function writesUnderWay({ device }: Leg): StorageError {
  const what = 'writes to it are still under way; it stays claimed until they are over'
  return new StorageError('UNAVAILABLE', what, device.path)
}

async function markDetached(volume: Volume, leg: Leg): Promise<void> {
  const { extents, membership } = volume
  await writeMaps(volume, [leg], [{ map: 0, bits: new Bitmap(extents), pages: allPages(extents) }])
  await membership.quiet()
  if (membership.over()) throw volume.unavailable()
  await leg.superblocks.write(() => {
    mustBeAsItLeft(leg)
    return { ...volume.record!, entries: [] }
  })
  await leg.flush()
}

/** Takes the leg out. Resolves when that is durable, or when it left otherwise meanwhile. */
async function drainAndLeave(volume: Volume, leg: Leg, label: string): Promise<void> {
  const { membership } = volume
  const over = (): boolean => membership.over() || !volume.inSync.includes(leg)
  await flushLeg(volume, leg)
  // Metadata writes are no requests of clients, and could land after the leg was given up.
  while (!over() && leg.changing) await leg.unchanging()
  if (over()) return
  // Others may have left meanwhile.
  mustSpare(volume, leg)
  leg.member!.label = label
  leave(volume, leg, 'detached', `taken off as ${label}`)
  // It does not come back by itself, and is given up as soon as it can be.
  leg.backOff.end()
  leg.lacksNothing(volume)
  volume.regroup()
  await volume.membership.settled()
}

/** Carries `action` out while no repair or copy is under way either. */
async function alone(volume: Volume, action: () => Promise<void>): Promise<void> {
  // If the run ended while writes drained, what is locked is never released.
  if (!volume.running) return
  const { membership } = volume
  const everything = new LockedRange(0, volume.record!.dataSize)
  await everything.acquire(volume)
  if (membership.over()) return
  try {
    await action()
  } finally {
    everything.release(volume)
  }
}

/** Gives up a detached leg that is not taken after all: its owner may be writing to it. */
export async function leaveDetached(volume: Volume, name: string): Promise<void> {
  const leg = volume.legs.find((one) => one.name === name)
  if (leg?.member?.state === 'detached') await giveUp(volume, leg)
}

/** Removes a leg that is to be an image: a detached one, or one in sync that is detached first. */
export async function exportLeg(volume: Volume, name: string): Promise<Leg> {
  mustRun(volume)
  const leg = legNamed(volume, name)
  // It is given up when its metadata are erased.
  if (leg.member?.state === 'detached') await mustBe(volume, leg)
  else await stampDetached(volume, await takeOff(volume, name, name))
  const { dataSize } = volume.record!
  volume.remember('operator', name, `exported as an image of ${dataSize} bytes`)
  return removeLeg(volume, name)
}

/** Erases the volume's metadata from a leg, within the time limit of a slow leg. */
export async function eraseLeg(volume: Volume, leg: Leg, geometry: Geometry): Promise<void> {
  leg.superblocks.mustBeSameDevice()
  await within(volume, leg.superblocks.erase(geometry))
  await within(volume, leg.flush())
}

/** Throws CONFIG if the detached leg is not there: it may have been replaced unseen. */
async function mustBe(volume: Volume, leg: Leg): Promise<void> {
  if (!leg.device.usable) throw refuse(volume, `${leg.name} is ${leg.device.state.word}`)
  await inspect(volume, leg)
  if (leg.superblocks.self !== leg.member!.id)
    throw refuse(volume, `${leg.name} is no longer the leg that was detached`)
}
