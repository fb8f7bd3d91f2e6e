import type { VolumeRecord } from '../../src/mirror/record.ts'
import { forEachStep } from './claims.ts'
import { numberOf, type Ranks, type Snapshot } from './codec.ts'
import type { Head } from './head.ts'
import type { World } from './world.ts'

/** Numbers of one head that are only compared with each other. */
export interface Scales {
  readonly moments: Ranks
  readonly versions: Ranks
}

/** Collects what is written as its place among all: `Ranks` throws where one is forgotten here. */
export function collect(world: World, generations: Ranks, scales: readonly Scales[]): void {
  generations.clear()
  for (const { moments, versions } of scales) {
    moments.clear()
    versions.clear()
  }
  if (world.heads.length > 1) {
    // No head has this id.
    forEachStep(world, (step) => {
      if (step > 0) generations.add(step * 4 + 3)
    })
    for (const { plan } of world.heads) if (plan !== null) addSnapshot(generations, plan.record)
    for (const doubted of world.doubts) generations.add(doubted)
    for (const { unserved } of world.heads) generations.add(unserved)
  }
  for (const { superblock } of world.disks) addSnapshot(generations, superblock)
  for (const store of world.stores) addSnapshot(generations, store)
  for (const head of world.heads) collectHead(head, generations, scales[head.index]!)
  for (const { ghost, head, job, kind, moment, snapshot } of world.ops) {
    if (snapshot !== null) addSnapshot(generations, snapshot)
    if (ghost !== 'no') continue
    scales[head]!.moments.add(moment)
    if (kind === 'superblock' || kind === 'save') scales[head]!.versions.add(job)
  }
}

function addSnapshot(generations: Ranks, { generation, base, left }: Snapshot): void {
  generations.add(generation)
  generations.add(base)
  for (const one of left) generations.add(one)
}

function addRecord(generations: Ranks, { generation, base, members }: VolumeRecord): void {
  generations.add(numberOf(generation))
  generations.add(numberOf(base))
  for (const { left } of members) if (left !== null) generations.add(numberOf(left))
}

function collectHead(head: Head, generations: Ranks, { moments, versions }: Scales): void {
  for (const job of [...head.jobs, ...head.parked])
    if (job.phase === 'legs' && job.kind === 'flush') moments.add(job.moment)
  if (head.word !== 'running') return
  const { log, record, saved } = head
  const run = head.run!
  moments.add(log.moment)
  for (const [at, last] of log.last.entries()) if ((log.hot & (1 << at)) !== 0) moments.add(last)
  addRecord(generations, record)
  if (saved !== null) addSnapshot(generations, saved)
  for (const { announcedBy, coming, flushedMoment, stage } of head.legs) {
    moments.add(flushedMoment)
    if (stage === 'saving') versions.add(announcedBy)
    if (coming?.generation) generations.add(numberOf(coming.generation))
  }
  versions.add(run.durable)
  versions.add(run.requested)
  if (run.round !== null) {
    versions.add(run.round.version)
    generations.add(numberOf(run.round.generation))
  }
  for (const { version } of run.waits) versions.add(version)
  for (const { version } of run.works) versions.add(version)
  versions.add(run.cleaning?.version ?? 0)
  versions.add(run.opening?.version ?? 0)
  moments.add(run.cleaning?.moment ?? 0)
}
