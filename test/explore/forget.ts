import { claiming, forgetHeard, hadAnother, keepFloor } from './claims.ts'
import { bareOf, generationOf, type Snapshot } from './codec.ts'
import type { Head } from './head.ts'
import type { Job, Op } from './model.ts'
import { claimant, lifeOf, type Plan } from './plan.ts'
import { isAlone } from './together.ts'
import type { World } from './world.ts'

/**
 * Forgets what nobody can tell any more, so that states which differ in nothing else are one. Each
 * of these is argued in `docs/explore.md`.
 */
export function forget(world: World): void {
  if (world.heads.length === 1) forgetRecords(world)
  else {
    forgetRefused(world)
    forgetProcesses(world)
    forgetStates(world)
    for (const head of world.heads) if (head.plan !== null) forgetPlan(world, head, head.plan)
  }
  for (let at = 0; at < world.ops.length; at++) world.ops[at] = plain(world.ops[at]!)
  const { lastHead } = world
  for (const head of world.heads) {
    for (const job of head.jobs) forgetCovers(world, job)
    for (const job of head.parked) {
      forgetCovers(world, job)
      job.phase = 'range'
      job.pending = job.moment = 0
    }
    if (head.word === 'running') forgetOfRun(world, head)
  }
  if (world.faults === 0 && world.heads.length > 1) forgetFaults(world)
  if (lastHead !== null) forgetForGood(world, lastHead)
  if (world.heads.length === 1 && world.configuration.writes > 1) renumber(world, world.heads[0]!)
}

/** Where there is one head, which starts by its own record. */
function forgetRecords(world: World): void {
  const [head] = world.heads
  for (const disk of world.disks) disk.superblock = bare(world, disk.superblock.generation)
  world.stores[0] = reread(world.stores[0]!)
  for (let at = 0; at < world.ops.length; at++) {
    const op = world.ops[at]!
    const { snapshot } = op
    if (snapshot === null) continue
    const read = op.kind === 'save' ? reread(snapshot) : bare(world, snapshot.generation)
    if (read !== snapshot) world.ops[at] = { ...op, snapshot: read }
  }
  if (head!.saved !== null) head!.saved = reread(head!.saved)
  if (head!.record.history.length > 0) head!.record.history = [generationOf(0)]
}

/** What is late, and comes to a leg that a newer head has claimed, is refused unheard. */
function forgetRefused(world: World): void {
  const { disks, heads } = world
  if (world.faults === 0) for (const head of heads) if (isShutOut(world, head)) head.halt()
  const { ops } = world
  const isHeard = ({ kind, ghost, head, leg, claim }: Op): boolean =>
    kind === 'save'
      ? world.faults > 0 || heads[head]!.word !== 'halted'
      : (ghost === 'no' && !mayWait(world, heads[head]!)) ||
        !claiming.refuses(disks[leg]!, { claim })
  if (!ops.every(isHeard)) world.ops = ops.filter(isHeard)
}

/** Whether it need not hear that it was replaced: it can do all that it could do then. */
function mayWait({ faults }: World, { word }: Head): boolean {
  return faults === 0 && word === 'running'
}

/**
 * What the process of a head claimed that was replaced, and what is to be told a head that has
 * claimed more since. Of processes of one head only the order counts, of those that have left
 * anything: as long as none has, this one is the first.
 */
function forgetProcesses(world: World): void {
  const { heads, disks, floors, ops } = world
  const lowest = Math.min(...disks.map(({ superblock }) => superblock.generation >> 2))
  for (const head of heads) {
    const { index } = head
    if (head.word === 'halted') {
      keepFloor(world, head)
      head.claim = 0
      forgetHeard(world, head)
    }
    // Whoever sees any leg claims as much.
    if (floors[index]! <= lowest + 1) floors[index] = 0
    for (const disk of disks)
      if (head.word === 'halted' || disk.claim <= head.claim) disk.told &= ~(1 << index)
    let lives = head.word === 'halted' && world.faults === 0 ? 0 : 1 << head.life
    const note = (claim: number): void => {
      if (claim > 0 && claimant(claim) === index) lives |= 1 << lifeOf(claim)
    }
    note(head.claim)
    for (const { claim } of disks) note(claim)
    for (const { claim, value, kind } of ops) {
      note(claim)
      if (kind === 'claim') note(value)
    }
    if ((lives & (lives + 1)) === 0) continue
    const renamed = (claim: number): number =>
      claim > 0 && claimant(claim) === index
        ? claim - lifeOf(claim) + placeIn(lives, lifeOf(claim))
        : claim
    head.life = placeIn(lives, head.life)
    head.claim = renamed(head.claim)
    for (const disk of disks) disk.claim = renamed(disk.claim)
    for (const [at, op] of ops.entries())
      if (op.head === index)
        ops[at] = {
          ...op,
          claim: renamed(op.claim),
          value: op.kind === 'claim' ? renamed(op.value) : op.value,
        }
  }
}

/** Of a leg that is not in sync only that is read, in whatever record. */
function forgetStates(world: World): void {
  for (const disk of world.disks) disk.superblock = plainStates(disk.superblock)
  for (const [at, store] of world.stores.entries()) world.stores[at] = plainStates(store)
  for (const head of world.heads) if (head.saved !== null) head.saved = plainStates(head.saved)
  for (const [at, op] of world.ops.entries()) {
    if (op.snapshot === null) continue
    const snapshot = plainStates(op.snapshot)
    if (snapshot !== op.snapshot) world.ops[at] = { ...op, snapshot }
  }
}

/** Of an attempt that is sure to fail nobody reads what it was to start from. */
function forgetPlan(world: World, head: Head, plan: Plan): void {
  const { present, byOwnRecord } = plan
  plan.seen &= present
  if (!byOwnRecord && world.stores[head.index]!.generation === 0) plan.another = false
  const isDoubtful = plan.another && byOwnRecord
  if (!isDoubtful && claiming.isAsSeen(present, plan.seen)) forgetSure(world, head, plan)
  else plan.record = bare(world, 0)
}

/** If nothing can keep the head from its start any more, only who is claimed then is read. */
function forgetSure(world: World, head: Head, { waits, byOwnRecord }: Plan): void {
  const { disks, stores, doubts } = world
  const { index, claim } = head
  if (!isAlone(world, head)) return
  const isSure = disks.every(
    (disk, at) => disk.claim <= claim && !(byOwnRecord && hadAnother(world, head, at)),
  )
  if (!isSure) return
  stores[index] = { ...bare(world, 0), boots: disks.map(({ boot }) => boot) }
  doubts[index] = 0
  for (const [at, disk] of disks.entries()) {
    disk.known = disk.unheard = 0
    if ((waits & (1 << at)) !== 0) disk.claim = 0
  }
}

/**
 * No fault is left: only a head that has no run starts, so of others nobody reads the store, and
 * nothing loses its power. One that was replaced asks nobody any more.
 */
function forgetFaults(world: World): void {
  const { clients, disks, heads, stores } = world
  for (const head of heads) {
    const { index, word } = head
    if (word !== 'halted' && word !== 'running') continue
    stores[index] = { ...bare(world, 0), boots: disks.map(({ boot }) => boot) }
    world.doubts[index] = world.floors[index] = head.unserved = 0
    for (const disk of disks) {
      disk.told &= ~(1 << index)
      disk.unheard &= ~(1 << index)
      if (claimant(disk.claim) === index) disk.known = 0
    }
    if (word === 'running') continue
    head.life = 0
    for (const disk of disks) disk.away &= ~(1 << index)
  }
  for (const [at, op] of world.ops.entries())
    if (op.kind === 'save' && heads[op.head]!.word === 'running')
      world.ops[at] = { ...op, snapshot: stores[op.head]! }
  if (clients.flushes > 0 || heads.some(isFlushing)) return
  for (const { stable } of disks)
    for (let at = 0; at < stable.length; at++)
      stable[at] = Math.min(stable[at]!, clients.flushed[at]!)
  for (const disk of disks) disk.examined = false
}

/** Every leg refuses it: nothing that it does can be told, and no fault has it start again. */
function isShutOut({ disks }: World, { word, claim }: Head): boolean {
  return (
    (word === 'running' || word === 'claiming') &&
    disks.every((disk) => claiming.refuses(disk, { claim }))
  )
}

/** Of a superblock only the generation is read: the head's own record says the rest. */
function bare({ configuration }: World, generation: number): Snapshot {
  return bareOf(generation, configuration.legs)
}

const missing = 2
const something = [0]

/** Of a record: a leg is in sync or it is not, and there was a generation before or not. */
function reread(from: Snapshot): Snapshot {
  const { history } = from
  const plain = plainStates(from)
  if (history.length === 0 || (history.length === 1 && history[0] === 0)) return plain
  return { ...plain, history: something }
}

function plainStates(from: Snapshot): Snapshot {
  const { states } = from
  if (states.every((state) => state === 0 || state === missing)) return from
  return { ...from, states: states.map((state) => (state === 0 ? 0 : missing)) }
}

/** Of a write nobody asks when it began. */
function plain(op: Op): Op {
  return op.kind === 'flush' || op.moment === 0 ? op : { ...op, moment: 0 }
}

/** What a flush covers that was flushed already. */
function forgetCovers({ clients: { flushed } }: World, { covers }: Job): void {
  for (let at = 0; at < covers.length; at++) if (covers[at]! <= flushed[at]!) covers[at] = 0
}

function forgetOfRun(world: World, head: Head): void {
  const { record, log } = head
  const run = head.run!
  for (const member of record.members) if (member.state !== 'in-sync') member.state = 'missing'
  if (run.round === null) head.saved = null
  if (head.mapLegs === 0) head.mapWhole = true
  for (const leg of head.legs) {
    const isWritten = run.works.some(({ what, then }) => what === 'copied' && then === leg)
    if (leg.dirty !== null && leg.finishing === null && !isWritten) leg.dirty.uncovered = -1
  }
  for (let at = 0; at < log.last.length; at++) if (log.inFlight[at]! > 0) log.last[at] = 0
  if (log.hot === 0 && log.inherited === 0 && !usesMoments(world, head)) forgetMoments(head)
}

/** Whether a flush is under way for anybody, or may be about to be. */
function usesMoments({ ops }: World, head: Head): boolean {
  const { cleaning, opening } = head.run!
  return (
    cleaning !== null ||
    opening !== null ||
    head.jobs.length > 0 ||
    ops.some(({ kind, ghost }) => kind === 'flush' && ghost === 'no')
  )
}

/** With nothing in the log every moment of before is before all that are to come. */
function forgetMoments({ log, legs }: Head): void {
  log.moment = 1
  for (const leg of legs) leg.flushedMoment = 1
}

/**
 * No fault is left and the head runs: no run ends any more, so nobody reads what only a start
 * reads, and no leg leaves.
 */
function forgetForGood(world: World, head: Head): void {
  const { clients, disks } = world
  const nothing = { ...bare(world, 0), boots: disks.map(({ boot }) => boot) }
  const { record } = head
  const run = head.run!
  for (const { index } of world.heads) {
    world.stores[index] = nothing
    world.doubts[index] = world.floors[index] = world.heads[index]!.unserved = 0
    if (index !== head.index) world.heads[index]!.claim = world.heads[index]!.life = 0
  }
  if (head.saved !== null) head.saved = nothing
  const noFlush = clients.flushes === 0 && !isFlushing(head)
  for (const leg of head.legs) {
    const disk = disks[leg.index]!
    disk.log = disk.lacks = 0
    disk.told = 0
    if (leg.stage === 'absent') continue
    disk.superblock = nothing
    record.members[leg.index]!.left = null
    // What was flushed for clients stays flushed.
    if (!noFlush || leg.stage !== 'in-sync') continue
    disk.examined = false
    for (let at = 0; at < disk.stable.length; at++)
      disk.stable[at] = Math.min(disk.stable[at]!, clients.flushed[at]!)
  }
  for (let at = 0; at < world.ops.length; at++) world.ops[at] = unread(world, head, world.ops[at]!)
  if (clients.cleanings > 0 || run.cleaning !== null) return
  forgetMoments(head)
  head.log.last.fill(0)
  for (const job of head.jobs) job.moment = 0
}

function isFlushing({ jobs, parked }: Head): boolean {
  return jobs.some(({ kind }) => kind === 'flush') || parked.some(({ kind }) => kind === 'flush')
}

/** Something under way that nobody will read where it lands, or whose moment nobody asks for. */
function unread(world: World, head: Head, op: Op): Op {
  const { kind, leg, snapshot } = op
  const keepsMoments = world.clients.cleanings > 0 || head.run!.cleaning !== null
  if (kind === 'flush') return keepsMoments || op.moment === 0 ? op : { ...op, moment: 0 }
  if (kind === 'log' || kind === 'lacks') return op.value === 0 ? op : { ...op, value: 0 }
  if (kind === 'all') return { ...op, value: 0, extent: 0 }
  const isAbsent = kind !== 'save' && head.legs[leg]!.stage === 'absent' && op.ghost !== 'no'
  if (snapshot === null || isAbsent) return op
  return { ...op, snapshot: world.stores[head.index]! }
}

/**
 * Values are only compared with others of their extent, and numbers of requests only for equality:
 * the lowest will do. What comes later has a higher one, see `World.ask`.
 */
function renumber(world: World, head: Head): void {
  const { acknowledged, flushed } = world.clients
  const jobs = [...head.jobs, ...head.parked]
  for (let extent = 0; extent < acknowledged.length; extent++) {
    let values = (1 << acknowledged[extent]!) | (1 << flushed[extent]!)
    for (const { cache, stable } of world.disks)
      values |= (1 << cache[extent]!) | (1 << stable[extent]!)
    for (const op of world.ops) if (writes(op, extent)) values |= 1 << op.value
    for (const job of jobs)
      if (job.kind === 'flush') values |= 1 << job.covers[extent]!
      else if (job.extent === extent) values |= 1 << job.value
    const lowest = placeIn(values, flushed[extent]!)
    acknowledged[extent] = placeIn(values, acknowledged[extent]!)
    flushed[extent] = lowest
    for (const disk of world.disks) {
      disk.cache[extent] = placeIn(values, disk.cache[extent]!)
      disk.stable[extent] = placeIn(values, disk.stable[extent]!)
    }
    for (const [at, op] of world.ops.entries())
      if (writes(op, extent)) world.ops[at] = { ...op, value: placeIn(values, op.value) }
    for (const job of jobs)
      if (job.kind === 'flush') job.covers[extent] = placeIn(values, job.covers[extent]!)
      else if (job.extent === extent) job.value = placeIn(values, job.value)
  }
  renumberJobs(world, head, jobs)
}

function writes({ kind, extent }: Op, to: number): boolean {
  return extent === to && (kind === 'write' || kind === 'copy')
}

/** How many of the numbers that are set are lower. */
function placeIn(set: number, number: number): number {
  let place = 0
  for (let below = set & ((1 << number) - 1); below !== 0; below &= below - 1) place++
  return place
}

function renumberJobs(world: World, head: Head, jobs: readonly Job[]): void {
  let ids = 0
  for (const { id } of jobs) ids |= 1 << id
  const idOf = (id: number): number => placeIn(ids, id) + 1
  for (const [at, op] of world.ops.entries()) {
    const isAsked = op.kind === 'write' || (op.kind === 'flush' && op.why === 'client')
    if (isAsked && op.ghost === 'no') world.ops[at] = { ...op, job: idOf(op.job) }
  }
  const { run } = head
  if (run !== null) {
    run.short = run.short.map(idOf)
    run.waits = run.waits.map((wait) => ({ ...wait, id: idOf(wait.id) }))
  }
  for (const job of jobs) job.id = idOf(job.id)
}
