import { isPast, remembers, sameGeneration, type VolumeRecord } from '../../src/mirror/record.ts'
import { wasNeverServed } from '../../src/mirror/start/forks.ts'
import { decide, type LegView, type OwnRecord } from '../../src/mirror/start/decision.ts'
import type { Code } from '../../src/base/errors.ts'
import { emptyRecord, generationOf, numberOf, restore, snapshotOf, type Snapshot } from './codec.ts'
import type { Head } from './head.ts'
import { claimant, claimOf, lifeOf, stepOf } from './plan.ts'
import { claimAll, nothingElseToSee } from './together.ts'
import type { HeadLeg, Op } from './model.ts'
import { nameHead, nameOf } from './names.ts'
import { startFrom, visible } from './procedures.ts'
import type { Choose, Disk, World } from './world.ts'

/** How a head starts where there is another: it looks, claims, looks again, and starts. */

/** What of that a test puts a defect in the place of. */
export const claiming = {
  /** Whether a leg refuses what a head sends that claimed less. */
  refuses: (disk: { readonly claim: number }, op: { readonly claim: number }): boolean =>
    disk.claim > op.claim,
  /** Whether a head's own record still says who is in sync. */
  vouches: (isAnothers: boolean, isDoubted: boolean): boolean => !isAnothers && !isDoubted,
  /** Whether a head starts from what legs showed before it claimed them. */
  isAsSeen: (present: number, seen: number): boolean => (present & ~seen) === 0,
}

type Decision = Extract<ReturnType<typeof decide>, { readonly kind: 'start' }>

export function offerLook(world: World, head: Head): void {
  if (isOutbid(world, head)) {
    world.moves.push(() => {
      head.halt()
      return `${nameHead(head.index)} sees that a newer one has its legs`
    })
    return
  }
  const count = isTie(world) ? world.disks.length : 1
  for (let first = 0; first < count; first++) {
    const decision = decideNow(world, head, first)
    if (decision !== null) world.moves.push((choose) => look(world, head, decision, choose))
  }
}

/** Whether of two generations neither is newer: the first that is seen counts. */
function isTie({ disks }: World): boolean {
  const seen = disks.map(({ superblock }) => superblock.generation)
  return seen.some((one) => seen.some((other) => one !== other && one >> 2 === other >> 2))
}

/** Whether the process was told by a leg that took part that it was replaced. */
function isOutbid(world: World, head: Head): boolean {
  const { states } = world.stores[head.index]!
  return (
    head.claim > 0 &&
    world.disks.some(
      ({ away, claim }, at) =>
        (away & (1 << head.index)) === 0 && claim > head.claim && states[at] === 0,
    )
  )
}

/** What the volume itself decides, from what it would see now; null where it waits. */
function decideNow(world: World, head: Head, first: number): Decision | null {
  const seen = visible(world, head)
  const views = world.disks.map(({ superblock }, at): LegView => {
    const leg = legOf(at)
    const name = head.legs[at]!.name
    if (!seen.includes(at))
      return { leg, name, found: null, reason: '', hadAnotherHead: null, mark: 0 }
    const shown = { serial: 1, self: String(at), record: recordOf(superblock) }
    const found = { kind: 'superblock', superblock: shown, previous: 1 } as const
    const hadAnotherHead = hadAnother(world, head, at)
    return { leg, name, found, reason: '', hadAnotherHead, mark: 1 }
  })
  const ordered = [...views.slice(first), ...views.slice(0, first)]
  const decision = decide(ownRecord(world, head, views), ordered, { force: false, leg: null })
  return decision.kind === 'start' ? decision : null
}

function ownRecord(world: World, { index }: Head, views: readonly LegView[]): OwnRecord | null {
  const store = world.stores[index]!
  if (store.generation === 0) return null
  const another = views.some(({ hadAnotherHead }) => hadAnotherHead === true)
  const vouches = claiming.vouches(another, world.doubts[index] === store.generation)
  return { record: recordOf(store), vouches }
}

function recordOf(snapshot: Snapshot): VolumeRecord {
  const record = emptyRecord(snapshot.states.length)
  restore(record, snapshot)
  record.forcedAt = null
  return record
}

/** What the decision asks of a leg: it is the device that it was, and tells who has claimed it. */
function legOf(at: number): LegView['leg'] {
  const driver = { children: [], claimed: true }
  const device = { facts: { identity: '' }, driver }
  const leg = { index: at, device, isAnotherThan: () => false }
  return (legs[at] ??= leg as unknown as LegView['leg'])
}
const legs: LegView['leg'][] = []

/** Decides, and claims every leg that is there. */
function look(world: World, head: Head, decision: Decision, choose: Choose): string {
  const { index } = head
  const { record, present, byOwnRecord } = decision
  const places = present.map((leg) => (leg as unknown as { readonly index: number }).index)
  const there = visible(world, head)
  const own = world.stores[index]!
  const isAnothers = there.some((at) => hadAnother(world, head, at))
  // The claims are about to be replaced.
  if (own.generation !== 0 && isAnothers) world.doubts[index] = own.generation
  const shown = there.map((at) => world.disks[at]!.superblock.generation)
  const known = [numberOf(record.generation), own.generation, ...shown]
  const counted = known.filter((one) => one !== head.unserved)
  const highest = Math.max(0, ...counted.map((one) => generationOf(one).counter))
  head.claim = claimOf(Math.max(highest + 1, floorOf(world, head)), index, head.life)
  const bits = (of: readonly number[]): number => of.reduce((all, at) => all | (1 << at), 0)
  head.word = 'claiming'
  head.plan = {
    record: snapshotOf(record),
    present: bits(places),
    byOwnRecord,
    seen: bits(there),
    waits: bits(there),
    another: false,
  }
  for (const at of there) {
    world.disks[at]!.unheard |= 1 << index
    head.submit({ kind: 'claim', leg: at, value: head.claim })
  }
  if (nothingElseToSee(world, head)) claimAll(world, head, choose)
  return `${nameHead(index)} looks at ${there.map(nameOf).join(' and ')}`
}

/** The step of the highest claim that the head has made, in this process or before. */
function floorOf({ floors }: World, { index, claim }: Head): number {
  return Math.max(floors[index]!, stepOf(claim))
}

/** Whether the leg shows a claim that the head does not know for its own. */
export function hadAnother({ disks }: World, { index }: Head, at: number): boolean {
  const { claim, known } = disks[at]!
  return claim !== 0 && (claimant(claim) !== index || known === 0)
}

/** The claim arrives, and is no lower than any before. */
export function claim(world: World, { head, leg, value }: Op): void {
  const disk = world.disks[leg]!
  // Of a claim that is kept every leg is known that shows it.
  const isKept = world.disks.some((one) => one.claim === value && one.known === 2)
  if (disk.claim !== value) disk.known = isKept ? 2 : 0
  take(world, world.heads[head]!, leg, value)
}

/** The head hears that the leg has taken its claim, perhaps from another one; or has not. */
export function hearsOfClaim(world: World, op: Op, from: 'nobody' | 'another' | 'refused'): void {
  const disk = world.disks[op.leg]!
  const { plan } = world.heads[op.head]!
  disk.unheard &= ~(1 << op.head)
  if (from === 'another' && plan !== null) plan.another = true
  if (from === 'nobody' && disk.known === 0) disk.known = 1
}

/**
 * The head serves: the others are not in sync, which is durable, so that it need not know whose
 * claims it replaced there.
 */
export function keepWhileServing(world: World, head: Head): void {
  const { run } = head
  if (world.heads.length === 1 || run?.word !== 'running') return
  // Whatever was doubted is past.
  world.doubts[head.index] = 0
  keepClaim(world, head, (disk) => run.inSync.some(({ index }) => world.disks[index] === disk))
}

/** The head knows its claim from now on, if it has heard from every such leg that it asked. */
function keepClaim(
  { disks }: World,
  { index, life }: Head,
  counts: (disk: Disk) => boolean = () => true,
): void {
  if (disks.some((disk) => (disk.unheard & (1 << index)) !== 0 && counts(disk))) return
  for (const disk of disks)
    if (disk.claim > 0 && claimant(disk.claim) === index && lifeOf(disk.claim) === life)
      disk.known = 2
}

/** The process has died, or what it claimed is asked by nobody: how far it came is kept. */
export function keepFloor(world: World, head: Head): void {
  world.floors[head.index] = floorOf(world, head)
}

/** The head has died: what it has heard and not kept is forgotten. */
export function forgetHeard({ disks }: World, { index }: Head): void {
  for (const disk of disks) {
    disk.unheard &= ~(1 << index)
    if (disk.known === 1 && claimant(disk.claim) === index) disk.known = 0
  }
}

/** From now on the leg refuses who claimed less, and tells them. */
function take(world: World, head: Head, at: number, value: number): void {
  const disk = world.disks[at]!
  if (value > disk.claim)
    for (const { index, claim: theirs } of world.heads)
      if (index !== head.index && theirs > 0 && (disk.away & (1 << index)) === 0)
        disk.told |= 1 << index
  disk.claim = Math.max(disk.claim, value)
}

/** The head hears from a leg that another one has claimed it since. */
export function hears(world: World, index: number, at: number): string {
  const head = world.heads[index]!
  const disk = world.disks[at]!
  disk.told &= ~(1 << index)
  const what = `${nameHead(index)} hears from ${nameOf(at)} that it was replaced`
  // It has claimed more since.
  if (disk.claim <= head.claim) return what
  const now = { word: 'fenced', bootId: '', state: 'missing', writing: false, reason: '' } as const
  if (head.word === 'claiming') head.halt()
  else head.tell({ kind: 'device', leg: head.legs[at]!, now })
  return what
}

/** A leg has taken the claim. */
export function claimed(world: World, head: Head, leg: HeadLeg, choose: Choose): void {
  const { plan } = head
  if (plan === null || (plan.waits & leg.bit) === 0) return
  plan.waits &= ~leg.bit
  if (plan.waits !== 0) return
  const { present, record } = plan
  const isThere = world.disks.every((_, at) => {
    return (present & (1 << at)) === 0 || world.reaches(head, at)
  })
  // It came between the decision and the claim, which replaced what told of it.
  const isDoubtful = plan.another && plan.byOwnRecord
  if (plan.another) world.doubts[head.index] = world.stores[head.index]!.generation
  if (!isDoubtful) keepClaim(world, head)
  head.plan = null
  head.word = 'idle'
  if (isDoubtful || !claiming.isAsSeen(present, plan.seen) || !isThere) return
  restore(head.record, record)
  const places = head.subsets[present]!
  startFrom(world, head, present, places[choose(places.length)]!.index)
}

/** Whether the attempt goes on without the leg. */
export function notClaimed(head: Head, leg: HeadLeg, code: Code): boolean {
  const { plan } = head
  // Of an attempt that is over nobody waits for it.
  if (plan === null || (plan.waits & leg.bit) === 0) return false
  if (code === 'FENCED') head.halt()
  else if ((plan.present & leg.bit) !== 0) {
    head.plan = null
    head.word = 'idle'
  } else return true
  return false
}

/** Claims a leg for the running head, and says how it may come back: not at all, where it is ''. */
export function judge(world: World, head: Head, leg: HeadLeg): 'partial' | 'full' | '' {
  const { record } = head
  const disk = world.disks[leg.index]!
  if (disk.claim !== head.claim) disk.known = 0
  take(world, head, leg.index, head.claim)
  disk.unheard &= ~(1 << head.index)
  if (disk.known === 0) disk.known = 1
  keepClaim(world, head)
  const theirs = recordOf(disk.superblock)
  const { generation } = theirs
  if (!sameGeneration(generation, record.generation) && !isPast(theirs, record)) {
    if (remembers(theirs, record.generation)) return ''
    const inSync = head.run!.readable.map(({ member }) => ({ self: member.id, record }))
    record.forcedAt = null
    return wasNeverServed(theirs, inSync) ? 'full' : ''
  }
  const { left } = leg.member
  return left === null || generation.counter < left.counter ? 'full' : 'partial'
}

/** Calls back with the step of every claim that anybody can compare. */
export function forEachStep(world: World, found: (step: number) => void): void {
  const { disks, floors, heads, ops } = world
  for (const floor of floors) found(floor)
  for (const disk of disks) found(stepOf(disk.claim))
  for (const head of heads) found(stepOf(head.claim))
  for (const op of ops) {
    found(stepOf(op.claim))
    if (op.kind === 'claim') found(stepOf(op.value))
  }
}
