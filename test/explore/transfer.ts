import type { Run } from '../../src/mirror/rules/run.ts'
import { Lacks, Set8 } from './books.ts'
import { collect, type Scales } from './collect.ts'
import {
  Codec,
  generationOf,
  numberOf,
  Ranks,
  restore,
  snapshotOf,
  type Snapshot,
} from './codec.ts'
import type { Head } from './head.ts'
import { sortView } from './keys.ts'
import type { HeadLeg, Job, Op, OpKind } from './model.ts'
import type { Pack } from './pack.ts'
import type { Disk, World } from './world.ts'

const scales: Scales[] = [0, 1].map(() => ({ moments: new Ranks(), versions: new Ranks() }))

/** Writes the world to the pack, or reads it from there. */
export function transferWorld(world: World, pack: Pack): void {
  const codec = codecFor(world, pack)
  if (pack.writing) {
    collect(world, codec.generations, scales)
    codec.noteCounters()
    if (world.reduces) sortView(world, codec)
    else codec.view.setUsual()
    sortOps(world, codec)
  }
  transfer(world, codec)
}

/** Writes it with legs and extents in another order for each number; false where there is none. */
export function writeInOrder(world: World, pack: Pack, order: number): boolean {
  const codec = codecFor(world, pack)
  if (!codec.view.setOrder(order)) return false
  collect(world, codec.generations, scales)
  sortOps(world, codec)
  transfer(world, codec)
  return true
}

const codecs = new WeakMap<Pack, Codec>()

function codecFor(world: World, pack: Pack): Codec {
  let codec = codecs.get(pack)
  if (codec === undefined) {
    codec = new Codec(pack, world.configuration, world.heads.length === 1)
    codecs.set(pack, codec)
  }
  return codec
}

function transfer(world: World, codec: Codec): void {
  const { pack } = codec
  for (const names of codec.boots) names.clear()
  const { clients } = world
  codec.superblocks = codec.records = 'whole'
  if (!world.reduces) world.faults = pack.byte(world.faults)
  if (world.configuration.reduce) {
    const isLast = pack.flag(world.lastHead !== null)
    if (codec.isDense) codec.superblocks = 'bare'
    codec.records = isLast ? 'bare' : 'whole'
  }
  clients.writes = pack.byte(clients.writes)
  clients.flushes = pack.byte(clients.flushes)
  clients.cleanings = pack.byte(clients.cleanings)
  clients.checkpoints = pack.byte(clients.checkpoints)
  codec.perExtent(clients.acknowledged)
  codec.perExtent(clients.flushed)
  for (let place = 0; place < world.disks.length; place++) {
    const at = codec.legs[place]!
    const disk = world.disks[at]!
    disk.away = pack.byte(disk.away)
    if (world.heads.length > 1) {
      disk.claim = codec.claim(disk.claim)
      disk.told = pack.byte(disk.told)
      disk.known = pack.byte(disk.known) as Disk['known']
      disk.unheard = pack.byte(disk.unheard)
    }
    disk.boot = codec.boot(at, disk.boot)
    codec.perExtent(disk.cache)
    codec.perExtent(disk.stable)
    disk.superblock = codec.superblock(disk.superblock)!
    disk.log = codec.extentSet(disk.log)
    disk.lacks = codec.lacks(disk.lacks)
    disk.examined = pack.flag(disk.examined)
  }
  for (const head of world.heads) {
    world.stores[head.index] = codec.stored(world.stores[head.index]!)!
    if (!codec.isDense) {
      world.doubts[head.index] = codec.generation(world.doubts[head.index]!)
      world.floors[head.index] = codec.step(world.floors[head.index]!)
    }
    transferHead(head, codec)
  }
  const count = pack.byte(world.ops.length)
  const ops: Op[] = []
  for (let at = 0; at < count; at++)
    ops.push(transferOp(pack.writing ? world.ops[at]! : null, codec))
  if (!pack.writing) world.ops = ops
}

const opKinds: readonly OpKind[] = [
  'write',
  'copy',
  'flush',
  'log',
  'lacks',
  'all',
  'stamp',
  'superblock',
  'save',
  'claim',
]
const ghosts = ['no', 'lands', 'may-land'] as const
const reasons = ['client', 'copied', 'clean', 'start'] as const

/** Ops are a set: their order says nothing. */
function sortOps({ ops }: World, { view }: Codec): void {
  const keyOf = (op: Op): number => {
    const leg = op.kind === 'save' ? 0 : view.placeOfLeg[op.leg]!
    const place = leg * 16 + opKinds.indexOf(op.kind)
    const isOfExtent = op.kind === 'write' || op.kind === 'copy'
    const extent = isOfExtent ? view.placeOfExtent[op.extent]! : 0
    const what = (place * 64 + op.job) * 8 + extent
    const rest = (reasons.indexOf(op.why) * 4 + ghosts.indexOf(op.ghost)) * 2 + op.head
    return what * 64 + rest
  }
  for (let at = 0; at < ops.length; at++) keys[at] = keyOf(ops[at]!)
  for (let to = 1; to < ops.length; to++)
    for (let at = to; at > 0 && comesBefore(ops, at); at--) {
      const [op, key] = [ops[at]!, keys[at]!]
      ops[at] = ops[at - 1]!
      keys[at] = keys[at - 1]!
      ops[at - 1] = op
      keys[at - 1] = key
    }
}

const keys: number[] = []

function comesBefore(ops: readonly Op[], at: number): boolean {
  const [key, before] = [keys[at]!, keys[at - 1]!]
  if (key !== before) return key < before
  const [one, other] = [ops[at]!, ops[at - 1]!]
  return one.value < other.value || (one.value === other.value && one.moment < other.moment)
}

function transferOp(op: Op | null, codec: Codec): Op {
  const { pack } = codec
  const kind = pack.word(opKinds, op?.kind ?? null)!
  const head = pack.byte(op?.head ?? 0)
  const { moments, versions } = scales[head]!
  const leg = kind === 'save' ? 0 : codec.leg(op?.leg ?? 0)
  const ghost = pack.word(ghosts, op?.ghost ?? null)!
  const versioned = kind === 'superblock' || kind === 'save'
  // Nobody hears of a ghost.
  const job = ghost === 'no' ? (op?.job ?? 0) : 0
  return {
    kind,
    head,
    leg,
    ghost,
    job: versioned && ghost === 'no' ? ranked(pack, versions, job) : pack.byte(job),
    extent: transferExtent(kind, op?.extent ?? 0, codec),
    value: transferValue(kind, op?.value ?? 0, codec),
    why: pack.word(reasons, op?.why ?? null)!,
    moment: ghost === 'no' ? ranked(pack, moments, op?.moment ?? 0) : pack.byte(0),
    snapshot: transferSnapshot(kind, op?.snapshot ?? null, codec),
    claim: codec.claim(op?.claim ?? 0),
  }
}

function transferSnapshot(kind: OpKind, snapshot: Snapshot | null, codec: Codec): Snapshot | null {
  if (kind === 'save') return codec.stored(snapshot)
  return kind === 'superblock' || kind === 'stamp' ? codec.superblock(snapshot) : null
}

/** An extent, or the log. */
function transferExtent(kind: OpKind, extent: number, codec: Codec): number {
  if (kind === 'all') return codec.extentSet(extent)
  return kind === 'write' || kind === 'copy' ? codec.extent(extent) : 0
}

/** A value, the log, or what legs lack. */
function transferValue(kind: OpKind, value: number, codec: Codec): number {
  if (kind === 'claim') return codec.claim(value)
  if (kind === 'log') return codec.extentSet(value)
  return kind === 'lacks' || kind === 'all' ? codec.lacks(value) : codec.pack.byte(value)
}

/** The number as it was, or its place among all of its kind. */
function ranked(pack: Pack, ranks: Ranks, value: number): number {
  if (!pack.writing) return pack.byte(0)
  pack.byte(value === 0 ? 0 : ranks.of(value))
  return value
}

const words = ['dead', 'idle', 'claiming', 'running', 'halted'] as const
const runWords = ['starting', 'running', 'ended'] as const

function transferHead(head: Head, codec: Codec): void {
  const { pack } = codec
  head.word = pack.word(words, head.word)!
  head.jobs = transferJobs(head.jobs, head, codec)
  head.parked = transferJobs(head.parked, head, codec)
  if (!pack.writing && head.word !== 'running') head.forget()
  transferClaims(head, codec)
  if (head.word !== 'running') return
  const { moments } = scales[head.index]!
  head.log.transfer(codec, (moment) => ranked(pack, moments, moment))
  head.mapLegs = codec.legSet(head.mapLegs)
  head.mapWhole = pack.flag(head.mapWhole)
  transferRecord(head, codec)
  head.saved = codec.stored(head.saved)
  for (let at = 0; at < head.legs.length; at++)
    transferLeg(head.legs[codec.legs[at]!]!, head, codec)
  if (!pack.writing) head.run = head.spare
  transferRun(head.run!, head, codec)
}

function transferClaims(head: Head, codec: Codec): void {
  const { pack } = codec
  if (codec.isDense) return
  head.claim = codec.claim(head.claim)
  head.unserved = codec.generation(head.unserved)
  head.life = pack.byte(head.life)
  head.unwanted = codec.legSet(head.unwanted)
  const { plan } = head
  if (!pack.flag(plan !== null)) {
    head.plan = null
    return
  }
  const record = codec.snapshot(plan?.record ?? null)
  const present = codec.legSet(plan?.present ?? 0)
  const byOwnRecord = pack.flag(plan?.byOwnRecord ?? false)
  const seen = codec.legSet(plan?.seen ?? 0)
  const waits = codec.legSet(plan?.waits ?? 0)
  const another = pack.flag(plan?.another ?? false)
  if (pack.writing) return
  head.plan = record === null ? null : { record, present, byOwnRecord, seen, waits, another }
}

function transferRecord(head: Head, codec: Codec): void {
  const { record } = head
  const snapshot = codec.snapshot(snapshotOf(record))!
  if (!codec.pack.writing) restore(record, snapshot)
}

const phases = ['range', 'log', 'legs', 'settled'] as const

function transferJobs(jobs: Job[], head: Head, codec: Codec): Job[] {
  const { pack } = codec
  const { moments } = scales[head.index]!
  const count = pack.byte(jobs.length)
  const read: Job[] = []
  for (let at = 0; at < count; at++) {
    const job = pack.writing ? jobs[at]! : null
    const kind = pack.flag(job?.kind === 'flush') ? 'flush' : 'write'
    read.push({
      kind,
      id: pack.byte(job?.id ?? 0),
      extent: kind === 'write' ? codec.extent(job?.extent ?? 0) : pack.byte(0),
      value: pack.byte(job?.value ?? 0),
      covers: kind === 'flush' ? transferCovers(job?.covers ?? null, codec) : [],
      phase: pack.word(phases, job?.phase ?? null)!,
      pending: codec.legSet(job?.pending ?? 0),
      failed: pack.flag(job?.failed ?? false),
      moment: ranked(pack, moments, job?.phase === 'legs' && kind === 'flush' ? job.moment : 0),
    })
  }
  return pack.writing ? jobs : read
}

function transferCovers(covers: number[] | null, codec: Codec): number[] {
  const into = covers ?? codec.extents.map(() => 0)
  codec.perExtent(into)
  return into
}

const stages = ['in-sync', 'saving', 'handing-over', 'syncing', 'absent', 'detached'] as const
const comings = ['maps', 'quiet', 'stamp'] as const
const finishings = ['flush', 'maps', 'hand-over'] as const

function transferLeg(leg: HeadLeg, head: Head, codec: Codec): void {
  const { pack } = codec
  const { moments, versions } = scales[head.index]!
  leg.stage = pack.word(stages, leg.stage)!
  leg.flushedMoment = ranked(pack, moments, leg.flushedMoment)
  const boot = codec.boot(leg.index, leg.bootId.charCodeAt(0))
  if (!pack.writing) leg.bootId = String.fromCharCode(boot)
  leg.announcedBy = leg.stage === 'saving' ? ranked(pack, versions, leg.announcedBy) : 0
  if (pack.flag(leg.dirty !== null)) (leg.dirty ??= new Lacks(head.extents)).transfer(codec)
  else leg.dirty = null
  if (pack.flag(leg.unflushed !== null)) {
    leg.unflushed ??= new Set8()
    leg.unflushed.bits = codec.extentSet(leg.unflushed.bits)
  } else leg.unflushed = null
  transferComing(leg, codec)
  const phase = pack.word(finishings, leg.finishing?.phase ?? null)
  if (phase === null) leg.finishing = null
  else {
    const all = pack.flag(leg.finishing?.what === 'all')
    if (!pack.writing) leg.finishing = { phase, what: all ? 'all' : 'some' }
  }
}

function transferComing(leg: HeadLeg, codec: Codec): void {
  const { pack } = codec
  const { coming } = leg
  const phase = pack.word(comings, coming?.phase ?? null)
  if (phase === null) {
    leg.coming = null
    return
  }
  const full = pack.flag(coming?.copy === 'full')
  const boot = codec.boot(leg.index, coming?.bootId.charCodeAt(0) ?? 0)
  const generation = codec.generation(
    coming === null || coming.generation === null ? 0 : numberOf(coming.generation),
  )
  if (pack.writing) return
  leg.coming = {
    copy: full ? 'full' : 'partial',
    bootId: String.fromCharCode(boot),
    cause: '',
    phase,
    generation: generation === 0 ? null : generationOf(generation),
  }
}

function transferRun(run: Run<HeadLeg>, head: Head, codec: Codec): void {
  const { pack } = codec
  const { versions, moments } = scales[head.index]!
  const mask = (legs: readonly HeadLeg[]): readonly HeadLeg[] => {
    let bits = 0
    for (let at = 0; at < legs.length; at++) bits |= legs[at]!.bit
    bits = codec.legSet(bits)
    return pack.writing ? legs : head.subsets[bits]!
  }
  run.word = pack.word(runWords, run.word)!
  // What is durable is the lowest version that anybody can ask for.
  run.durable = ranked(pack, versions, run.durable)
  run.requested = ranked(pack, versions, run.requested)
  run.newGeneration = pack.flag(run.newGeneration)
  transferRound(run, codec, versions, mask)
  transferWaits(run, pack, versions)
  run.short = pack.list(run.short)
  transferWorks(run, head, codec, versions)
  const cleaning = pack.word(['flush', 'maps', 'durable'] as const, run.cleaning?.phase ?? null)
  if (cleaning === null) run.cleaning = null
  else {
    run.cleaning = {
      phase: cleaning,
      moment: ranked(pack, moments, run.cleaning?.moment ?? 0),
      version: ranked(pack, versions, run.cleaning?.version ?? 0),
      waits: mask(run.cleaning?.waits ?? []),
    }
  }
  const opening = pack.word(['maps', 'flush', 'durable'] as const, run.opening?.phase ?? null)
  if (opening === null) run.opening = null
  else {
    const isAgain = !codec.isDense && pack.flag(run.opening?.what === 'record')
    run.opening = {
      phase: opening,
      what: isAgain ? 'record' : 'members',
      version: ranked(pack, versions, run.opening?.version ?? 0),
      waits: mask(run.opening?.waits ?? []),
    }
  }
  if (pack.writing) return
  head.regroup(run)
}

function transferRound(
  run: Run<HeadLeg>,
  codec: Codec,
  versions: Ranks,
  mask: (legs: readonly HeadLeg[]) => readonly HeadLeg[],
): void {
  const { pack } = codec
  const { round } = run
  const phase = pack.word(['save', 'superblocks', 'base'] as const, round?.phase ?? null)
  if (phase === null) {
    run.round = null
    return
  }
  const version = ranked(pack, versions, round?.version ?? 0)
  const generation = codec.generation(round === null ? 0 : numberOf(round.generation))
  const joining = mask(round?.joining ?? [])
  const waits = mask(round?.waits ?? [])
  const whole = pack.flag(round?.whole ?? true)
  if (!pack.writing)
    run.round = { phase, version, generation: generationOf(generation), joining, waits, whole }
}

function transferWaits(run: Run<HeadLeg>, pack: Pack, versions: Ranks): void {
  const count = pack.byte(run.waits.length)
  const waits: Run['waits'] = []
  for (let at = 0; at < count; at++) {
    const wait = pack.writing ? run.waits[at]! : null
    const version = ranked(pack, versions, wait?.version ?? 0)
    waits.push({ version, id: pack.byte(wait?.id ?? 0), who: 'request' })
  }
  if (!pack.writing) run.waits = waits
}

const whats = ['log', 'lacking', 'copied', 'all'] as const
const thens = ['log', 'clean', 'start'] as const

function transferWorks(run: Run<HeadLeg>, head: Head, codec: Codec, versions: Ranks): void {
  const { pack } = codec
  const count = pack.byte(run.works.length)
  const works: Run<HeadLeg>['works'] = []
  for (let at = 0; at < count; at++) {
    const work = pack.writing ? run.works[at]! : null
    const what = pack.word(whats, work?.what ?? null)!
    const then = work?.then ?? null
    const word = pack.word(thens, typeof then === 'string' ? then : null)
    const isOfLeg = pack.flag(then !== null && typeof then === 'object')
    const leg = isOfLeg ? codec.leg((then as HeadLeg | null)?.index ?? 0) : 0
    const phase = pack.word(['waiting', 'pages', 'durable'] as const, work?.phase ?? null)!
    const version = ranked(pack, versions, work?.version ?? 0)
    works.push({ what, then: word ?? head.legs[leg]!, phase, version })
  }
  if (!pack.writing) run.works = works
}
