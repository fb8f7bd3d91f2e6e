import { StorageError } from '../../src/base/errors.ts'
import type { MirrorDriver } from '../../src/mirror/mirror.ts'
import type { Dice } from './dice.ts'
import type { Leg } from './trees.ts'
import type { World } from './world.ts'

/** How long an operator waits before trying again. */
export const attachRetryMs = 500

/**
 * What an operator does to a leg while everything else goes on. Refusals are noted, not held
 * against anybody.
 */
export function manage(
  world: World,
  leg: Leg,
  kind: 'detach' | 'invalidate' | 'verify' | 'replace',
  dice: Dice,
): void {
  const mirror = world.head?.mirrorOf(leg) ?? null
  if (mirror === null || world.head?.opened !== true) return
  const { name } = leg
  switch (kind) {
    case 'detach':
      note(world, `detach of ${name}`, detach(world, mirror, leg, dice))
      break
    case 'invalidate':
      note(world, `invalidate of ${name}`, mirror.invalidateLeg(name))
      break
    case 'verify':
      note(world, 'verify', verify(world, mirror))
      break
    case 'replace':
      replace(world, leg)
      break
  }
}

/** Attaches legs that are detached, or no more what they were, until all is well; for the end. */
export function attachAll(world: World): void {
  for (const leg of world.legs) {
    const mirror = world.head?.mirrorOf(leg) ?? null
    const { state } = world.legStatus()[leg.name] ?? {}
    const wanted = state === 'detached' || (state === 'failed' && world.operator.changed.has(leg))
    if (mirror !== null && wanted) void attempt(world, mirror, leg)
  }
  if (world.healthy()) return
  world.clock.after(attachRetryMs, null, () => {
    attachAll(world)
  })
}

/**
 * Has volumes start that wait because a leg was put back to an older state, and because nobody but
 * the operator knows that no other head went on with that leg alone.
 */
export function startWithoutPutBack(world: World): void {
  const { word, reason } = world.head?.device.state ?? {}
  const isDoubted = word === 'opening' && reason?.includes('another head may have had') === true
  if (!isDoubted || !reason.includes('was put back to an older state')) return
  for (const mirror of world.head!.mirrors)
    note(world, 'start without what was put back', mirror.startVolume({ force: true }))
}

/** Has volumes start that wait as another head may serve: the operator knows that it does not. */
export function startAlone(world: World): void {
  const { word, reason } = world.head?.device.state ?? {}
  if (word !== 'opening' || reason?.includes('it may serve') !== true) return
  for (const mirror of world.head!.mirrors)
    note(world, 'start, as no other head serves', mirror.startVolume())
}

/** Attaches the leg; again a little later if it is refused. */
export function attach(world: World, mirror: MirrorDriver, leg: Leg): void {
  // A head that died as it carried out what came before would never answer.
  if (world.head?.mirrors.includes(mirror) !== true) return
  attempt(world, mirror, leg).catch((error: unknown) => {
    if (!(error instanceof StorageError)) return
    world.clock.after(attachRetryMs, world.head?.process ?? null, () => {
      if (world.legStatus()[leg.name]?.state === 'detached') attach(world, mirror, leg)
    })
  })
}

/** What an operator has changed on the leg alone is discarded, and what nobody can vouch for. */
function attempt(world: World, mirror: MirrorDriver, leg: Leg): Promise<void> {
  const discard = world.replaced || world.operator.discards(leg)
  const attempt = mirror.attachLeg(leg.name, { discard })
  note(world, `attach of ${leg.name}${discard ? ', discarding' : ''}`, attempt)
  return attempt
}

/** Milliseconds after which the head knows what has happened to a leg. */
const noticedMs = 5000

/**
 * Whether others can do without the leg, all being well: none of them is about to leave, which the
 * head would not know yet. Not while a command is under way: it may take one of them out.
 */
export function isSpare(world: World, leg: Leg): boolean {
  const peers = world.peers(leg)
  if (!world.healthy() || world.head!.commands > 0) return false
  return peers.length > 0 && peers.every((peer) => answers(world, peer))
}

/** Whether nothing that the leg was asked for waits, nor would what it is asked for now. */
function answers(world: World, { name, machine, target }: Leg): boolean {
  const { clock, network, headMachine } = world
  const { pending } = world.legStatus()[name]!
  if (pending > 0 || clock.time - machine.crashedAt <= noticedMs) return false
  const ends = network.between(headMachine.name, name)
  return target === null || ends.every((end) => end.flows && end.other.flows)
}

/** Puts a blank disk, or one with the `copy`, into the place of one that is spare; once. */
export function replace(world: World, leg: Leg, copy: Buffer | null = null): void {
  if (world.replaced || leg.target?.process?.alive !== true || !isSpare(world, leg)) return
  world.replaced = true
  world.trace.note(`the disk of ${leg.name} is replaced`)
  exchange(world, leg, copy)
  takeReplacement(world, leg, filled(world, leg))
  // Nothing happens to the others meanwhile: until it is filled they have the only copy.
  world.faults.truce(filled(world, leg))
}

/** Tells whether the head has noticed by now that the leg is another, and filled it. */
function filled(world: World, leg: Leg): () => boolean {
  let noticed = false
  return () => {
    const { state } = world.legStatus()[leg.name] ?? {}
    noticed ||= state !== 'in-sync'
    return noticed && (state === 'in-sync' || state === 'detached')
  }
}

/** Milliseconds between two looks of the operator at a leg that was replaced. */
const lookMs = 100

/** An operator says that the blank disk is meant to be there, once the head refuses it. */
function takeReplacement(world: World, leg: Leg, isFilled: () => boolean): void {
  world.clock.after(lookMs, null, () => {
    const { state, reason = '' } = world.legStatus()[leg.name] ?? {}
    if (isFilled()) return
    takeReplacement(world, leg, isFilled)
    const mirror = world.head?.mirrorOf(leg) ?? null
    if (state !== 'failed' || !reason.includes('is blank') || mirror === null) return
    note(world, `replacement of ${leg.name}`, mirror.attachLeg(leg.name, { replace: true }))
  })
}

/** Another disk in a target that is started again for it. */
export function exchange(world: World, leg: Leg, copy: Buffer | null): void {
  const { machine, medium, target } = leg
  if (target!.process?.alive === true) machine.kill(target!.process)
  medium.replace()
  if (copy !== null) {
    medium.write(0, copy)
    medium.flush(medium.order)
  }
  world.faults.bootTarget(leg)
}

async function detach(world: World, mirror: MirrorDriver, leg: Leg, dice: Dice): Promise<void> {
  await mirror.detachLeg(leg.name, { as: 'backup' })
  world.trace.note(`${leg.name} is detached`)
  world.clock.after(dice.skewed(1, 5000), world.head?.process ?? null, () => {
    attach(world, mirror, leg)
  })
}

async function verify(world: World, mirror: MirrorDriver): Promise<void> {
  const result = await mirror.verify({ repair: false })
  world.trace.note(`verified ${result.bytesChecked} bytes, ${result.bytesDifferent} differ`)
}

export function note(world: World, what: string, work: Promise<unknown>): void {
  world.trace.note(`${what} begins`)
  const { head } = world
  if (head !== null) head.commands++
  const ended = (outcome: string): void => {
    if (head !== null) head.commands--
    world.trace.note(`${what} ${outcome}`)
  }
  work.then(
    () => ended('done'),
    (error: unknown) => {
      if (error instanceof StorageError) ended(`refused: ${error.code} ${error.message}`)
      else world.violated(error as Error)
    },
  )
}
