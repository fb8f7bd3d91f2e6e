import { StorageError } from '../../src/base/errors.ts'
import type { MirrorDriver } from '../../src/mirror/mirror.ts'
import type { Dice } from './dice.ts'
import type { Leg } from './trees.ts'
import type { World } from './world.ts'

/** How long an operator waits before trying again. */
const attachRetryMs = 500

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

/** Attaches legs that are detached until all is well; for the end. */
export function attachAll(world: World): void {
  for (const leg of world.legs) {
    const mirror = world.head?.mirrorOf(leg) ?? null
    if (mirror !== null && world.legStatus()[leg.name]?.state === 'detached')
      note(world, `attach of ${leg.name}`, mirror.attachLeg(leg.name, { discard: world.replaced }))
  }
  if (world.healthy()) return
  world.clock.after(attachRetryMs, null, () => {
    attachAll(world)
  })
}

/** Attaches the leg; again a little later if it is refused. */
function attach(world: World, mirror: MirrorDriver, name: string): void {
  const attempt = mirror.attachLeg(name, { discard: world.replaced })
  note(world, `attach of ${name}`, attempt)
  attempt.catch((error: unknown) => {
    if (!(error instanceof StorageError)) return
    world.clock.after(attachRetryMs, world.head?.process ?? null, () => {
      if (
        world.head?.mirrors.includes(mirror) === true &&
        world.legStatus()[name]?.state === 'detached'
      )
        attach(world, mirror, name)
    })
  })
}

/** Milliseconds after which the head knows what has happened to a leg. */
const noticedMs = 5000

/** Puts a blank disk into the place of one that others can do without, all being well; once. */
function replace(world: World, leg: Leg): void {
  const peers = world.peers(leg)
  const known = (peer: Leg): boolean => world.clock.time - peer.machine.crashedAt > noticedMs
  const spare = peers.length > 0 && peers.every(known) && world.healthy()
  if (world.replaced || !spare || leg.target?.process?.alive !== true) return
  world.replaced = true
  world.trace.note(`the disk of ${leg.name} is replaced`)
  leg.machine.kill(leg.target.process)
  leg.medium.replace()
  world.faults.bootTarget(leg)
  // Nothing happens to the others meanwhile: until it is filled they have the only copy.
  let noticed = false
  world.faults.truce(() => {
    const { state } = world.legStatus()[leg.name] ?? {}
    noticed ||= state !== 'in-sync'
    return noticed && (state === 'in-sync' || state === 'detached')
  })
}

async function detach(world: World, mirror: MirrorDriver, leg: Leg, dice: Dice): Promise<void> {
  await mirror.detachLeg(leg.name, { as: 'backup' })
  world.trace.note(`${leg.name} is detached`)
  world.clock.after(dice.skewed(1, 5000), world.head?.process ?? null, () => {
    attach(world, mirror, leg.name)
  })
}

async function verify(world: World, mirror: MirrorDriver): Promise<void> {
  const result = await mirror.verify({ repair: false })
  world.trace.note(`verified ${result.bytesChecked} bytes, ${result.bytesDifferent} differ`)
}

function note(world: World, what: string, work: Promise<unknown>): void {
  world.trace.note(`${what} begins`)
  work.then(
    () => world.trace.note(`${what} done`),
    (error: unknown) => {
      if (error instanceof StorageError)
        world.trace.note(`${what} refused: ${error.code} ${error.message}`)
      else world.violated(error as Error)
    },
  )
}
