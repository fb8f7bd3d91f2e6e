import { Violation } from './checker.ts'
import { Client } from './client.ts'
import { sectorBytes } from './medium.ts'
import type { Leg } from './trees.ts'
import { requestMsMax, type World } from './world.ts'

/** Sectors of one read. */
const readSectors = 64

/** Reads everything twice through the volume, then every leg by itself. */
export async function audit(world: World, when: string): Promise<void> {
  const { head, checker } = world
  world.trace.note(`audit ${when}`)
  const reader = new Client('audit', world, head!.process, head!.device, world.plan.workload)
  reader.silent = true
  for (let pass = 0; pass < 2; pass++)
    for (let at = 0; at < checker.size; at += readSectors) {
      reader.read(at, Math.min(readSectors, checker.size - at))
      await world.until(() => reader.inFlight === 0, requestMsMax, 'a read completes')
    }
  // The first flush may have to say that something was lost.
  const reads = reader.errors
  for (let pass = 0; pass < 2; pass++) {
    reader.errors = reads
    reader.flush()
    await world.until(() => reader.inFlight === 0, requestMsMax, 'a flush completes')
  }
  if (reader.errors > 0) throw world.found(`requests fail although all is well ${when}`)
  for (const leg of world.legs) auditLeg(world, leg, when)
}

function auditLeg(world: World, leg: Leg, when: string): void {
  const { checker, sectorsPerLeg: sectors } = world
  const base = leg.plan.span
  for (let at = base * sectors; at < (base + 1) * sectors; at++) {
    if (world.losses.holds(leg, at)) continue
    checker.suspect = at
    throw world.found(
      `${leg.name} is in sync and holds other bytes than the volume at sector ${at} ${when}: ` +
        checker.describe(at),
    )
  }
}

/**
 * Compares all legs in sync with each other, if nothing is under way: then they are equal, and a
 * crash that came now would find them so. Tells whether they could be compared.
 */
export function compareLegs(world: World): boolean {
  if (!isStill(world)) return false
  const status = world.legStatus()
  const inSync = world.legs.filter((leg) => status[leg.name]?.state === 'in-sync')
  if (!inSync.every((leg) => isKnown(world, leg))) return false
  const bytes = world.sectorsPerLeg * sectorBytes
  for (const [at, leg] of inSync.entries()) {
    const data = leg.medium.content.subarray(0, bytes)
    const other = inSync.slice(0, at).find(({ plan }) => plan.span === leg.plan.span)
    if (other === undefined || other.medium.content.subarray(0, bytes).equals(data)) continue
    reportDifference(world, leg, other)
  }
  return true
}

function reportDifference(world: World, leg: Leg, other: Leg): void {
  for (let sector = 0; sector < world.sectorsPerLeg; sector++) {
    const [from, to] = [sector * sectorBytes, (sector + 1) * sectorBytes]
    const data = leg.medium.content.subarray(from, to)
    if (other.medium.content.subarray(from, to).equals(data)) continue
    const at = leg.plan.span * world.sectorsPerLeg + sector
    world.checker.suspect = at
    world.violated(
      new Violation(
        `${other.name} and ${leg.name} are in sync, nothing is under way, and sector ${at} differs`,
      ),
    )
    return
  }
}

/** Words of a volume that does not run. */
const between: ReadonlySet<string> = new Set(['suspended', 'waiting', 'starting'])

/** Whether nobody asks for anything, and nothing is under way to a disk or to a machine. */
function isStill(world: World): boolean {
  const { head, clients, legs, network } = world
  return (
    head?.opened === true &&
    head.device.usable &&
    head.mirrors.length > 0 &&
    // Between two runs legs differ where a write was given up: the next start makes them equal.
    head.mirrors.every((mirror) => !between.has(String(mirror.describe()['volume']))) &&
    !world.rivalled &&
    clients.every((client) => client.inFlight === 0) &&
    head.process.owed === 0 &&
    legs.every(({ medium, target }) => medium.busy === 0 && (target?.process?.owed ?? 0) === 0) &&
    network.idle
  )
}

/** Whether the head has reached the leg's target as it is now, and knows what it has lost. */
function isKnown(world: World, leg: Leg): boolean {
  const head = world.head!
  if (leg.target === null) return true
  const { process } = leg.target
  const link = world.network.between(head.process.machine.name, leg.machine.name)
  return (
    process?.alive === true &&
    !process.frozen &&
    !head.process.frozen &&
    head.deviceOf(leg).state.word === 'online' &&
    link.some((end) => end.process === head.process && end.other.process === process)
  )
}
