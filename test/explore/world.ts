import { offerAlone, offerClaims } from './ample.ts'
import { lookForCopied } from './answers.ts'
import { claiming, hears, offerLook } from './claims.ts'
import { type Snapshot, snapshotOf } from './codec.ts'
import type { Configuration } from './config.ts'
import type { Explored } from './engine.ts'
import { offerFaults } from './faults.ts'
import { forget } from './forget.ts'
import { Head } from './head.ts'
import type { HeadLeg, Job, Op, Surroundings } from './model.ts'
import { land, vanish } from './landing.ts'
import { inSync, startsLate, wrong } from './invariants.ts'
import { nameHead, nameOf } from './names.ts'
import type { Pack } from './pack.ts'
import { copy, giveBack, mayCopy, start } from './procedures.ts'
import { transferWorld, writeInOrder } from './transfer.ts'

/** A leg's disk, and whether it can be reached. */
export interface Disk {
  /** Heads that cannot reach it, as bits. */
  away: number
  /** The highest claim, and heads that are about to hear that theirs is lower. */
  claim: number
  told: number
  /** Whether whose claim it shows knows it for its own: no, as long as it lives, for good. */
  known: 0 | 1 | 2
  /** Heads that did not hear whose claim theirs replaced, if any. */
  unheard: number
  /** Another one each time it loses what it had not flushed. */
  boot: number
  /** Of each extent: what it reads as, and what is left after a power loss. */
  readonly cache: number[]
  readonly stable: number[]
  superblock: Snapshot
  /** The log, and what each leg lacks, three bits for each. */
  log: number
  lacks: number
  /** Whether the superblock was read and not written since: a flush goes before the next one. */
  examined: boolean
}

/** What clients know. */
export interface Clients {
  writes: number
  flushes: number
  /** How often extents that are idle may leave the log. */
  cleanings: number
  /** How often what was copied so far is made durable. */
  checkpoints: number
  /** Of each extent: the last write that was acknowledged, and the last one that was flushed. */
  readonly acknowledged: number[]
  readonly flushed: number[]
}

export type Choose = (count: number) => number
/**
 * Something that may happen: carries it out, and says what it was. It is kept while the same state
 * is read again and again, so it has hold of places, not of ops.
 */
export type Move = (choose: Choose) => string

/** What a head finds in a store that nothing was saved in. */
function noRecord({ record }: Head): Snapshot {
  return { ...snapshotOf(record), generation: 0, base: 0 }
}

/** Heads, legs, stores and clients, all of them plain data between two moves. */
export class World implements Explored, Surroundings {
  readonly configuration: Configuration
  readonly heads: readonly Head[]
  readonly disks: readonly Disk[]
  /** What each head keeps for itself. */
  readonly stores: Snapshot[] = []
  /** The generation of each head's own record in which another had legs; 0 for none. */
  readonly doubts: number[] = []
  /** The step of the highest claim of processes of each head that have died; 0 for none. */
  readonly floors: number[] = []
  readonly clients: Clients
  ops: Op[] = []
  faults = 0
  /** Whether names and orders that say nothing are left out, see `docs/explore.md`. */
  reduces: boolean
  /** What was wrong with the step before. */
  private broken = ''
  moves: Move[] = []

  constructor(configuration: Configuration) {
    this.configuration = configuration
    this.reduces = configuration.reduce
    const { legs, extents } = configuration
    const zeroes = (): number[] => Array<number>(extents).fill(0)
    this.clients = {
      writes: 0,
      flushes: 0,
      cleanings: 0,
      checkpoints: 0,
      acknowledged: zeroes(),
      flushed: zeroes(),
    }
    this.heads = Array.from({ length: configuration.heads }, (_, at) => new Head(at, this))
    this.disks = Array.from({ length: legs }, () => ({
      away: 0,
      claim: 0,
      told: 0,
      known: 0,
      unheard: 0,
      boot: 0,
      cache: zeroes(),
      stable: zeroes(),
      superblock: snapshotOf(this.heads[0]!.record),
      log: 0,
      lacks: 0,
      examined: true,
    }))
    this.reset()
  }

  /** A volume that was made a moment ago, and a head that has not started it yet. */
  reset(): void {
    const fresh = new Head(0, this)
    for (const disk of this.disks) {
      disk.away = disk.claim = disk.told = disk.known = disk.unheard = 0
      disk.cache.fill(0)
      disk.stable.fill(0)
      disk.superblock = snapshotOf(fresh.record)
      disk.log = disk.lacks = disk.boot = 0
      disk.examined = true
    }
    for (const head of this.heads) {
      head.die()
      head.life = 0
      head.word = head.index === 0 ? 'idle' : 'halted'
      this.stores[head.index] = head.index === 0 ? snapshotOf(fresh.record) : noRecord(fresh)
      this.doubts[head.index] = this.floors[head.index] = 0
    }
    this.ops = []
    this.clients.writes = this.configuration.writes
    this.clients.flushes = this.configuration.flushes
    this.clients.acknowledged.fill(0)
    this.clients.flushed.fill(0)
    this.clients.cleanings = this.configuration.cleanings
    this.clients.checkpoints = this.configuration.checkpoints
    this.faults = 0
    this.settle()
    this.faults = this.configuration.faults
    for (const head of this.heads) if (head.word === 'halted') head.word = 'idle'
  }

  /** Lets everything under way come to its end, without a fault. */
  private settle(): void {
    const clients = { ...this.clients }
    Object.assign(this.clients, { writes: 0, flushes: 0, cleanings: 0, checkpoints: 0 })
    while (this.list() === '' && this.listed > 0) this.happen(0, () => 0)
    Object.assign(this.clients, clients)
  }

  /** The faults that are left; of a state that is not reduced they are a part. */
  get budget(): number {
    return this.reduces ? this.faults : 0
  }

  set budget(faults: number) {
    if (this.reduces) this.faults = faults
  }

  /** Whose run will not end, because only what fails ends one, or a newer head. */
  get lastHead(): Head | null {
    if (this.faults > 0) return null
    let last: Head | null = null
    for (const head of this.heads) {
      if (head.word === 'halted') continue
      if (last !== null || head.word !== 'running') return null
      last = head
    }
    return last !== null && this.heads.length > 1 && this.mayBeReplaced(last) ? null : last
  }

  private mayBeReplaced({ claim, index }: Head): boolean {
    return (
      this.disks.some((disk) => disk.claim > claim) ||
      this.ops.some(({ kind, head }) => kind === 'claim' && head !== index)
    )
  }

  /** Spends the faults that are left; whether that makes it another state. */
  spendBudget(): boolean {
    if (!this.reduces || this.faults === 0) return false
    this.faults = 0
    return this.heads.length > 1 || this.lastHead !== null
  }

  transfer(pack: Pack): void {
    if (pack.writing) {
      if (this.configuration.reduce) forget(this)
    } else this.broken = ''
    transferWorld(this, pack)
  }

  writeRenamed(pack: Pack, renaming: number): boolean {
    return writeInOrder(this, pack, renaming)
  }

  // Surroundings of heads.

  submit(op: Op): void {
    this.ops.push(op)
  }

  abandon(head: number, leg: number): void {
    this.ops = this.ops.map((op) =>
      op.kind !== 'save' && op.head === head && op.leg === leg && op.ghost === 'no'
        ? { ...op, ghost: 'lands' }
        : op,
    )
  }

  abandonSave(head: number): void {
    this.ops = this.ops.map((op) =>
      op.kind === 'save' && op.head === head && op.ghost === 'no' ? { ...op, ghost: 'lands' } : op,
    )
  }

  acknowledged(job: Job, head: number): void {
    const { acknowledged, flushed } = this.clients
    const legs = this.heads[head]!.run?.inSync.length ?? 0
    if (legs < this.configuration.minInSync) this.broken = `${legs} legs were enough`
    if (job.kind === 'write')
      acknowledged[job.extent] = Math.max(acknowledged[job.extent]!, job.value)
    else for (const [at, value] of job.covers.entries()) flushed[at] = Math.max(flushed[at]!, value)
  }

  failed(): void {
    // The client knows nothing then.
  }

  /** Clients are told that what was acknowledged and not flushed may be gone. */
  tellLoss(): void {
    const { acknowledged, flushed } = this.clients
    for (const [at, value] of flushed.entries()) acknowledged[at] = value
  }

  // What may happen.

  list(): string {
    this.moves = []
    if (this.reduces && offerAlone(this)) return ''
    this.offerHeads()
    this.offerOps()
    if (this.moves.length === 0) {
      const what = this.stuck()
      if (what !== '') return what
    }
    this.offerClients()
    if (this.faults > 0) offerFaults(this)
    return ''
  }

  get listed(): number {
    return this.moves.length
  }

  happen(move: number, choose: Choose): string {
    const { heads, lastHead } = this
    // Where states are reduced none hears that it was replaced once no fault is left.
    const goesOn = (head: Head): boolean =>
      head === lastHead || (this.faults === 0 && this.reduces && head.word === 'running')
    const running = heads.map(goesOn)
    const what = this.moves[move]!(choose)
    for (const { index, word } of heads)
      if (running[index] && word !== 'running')
        this.broken = 'the run ended, and nothing had failed'
    return what
  }

  check(): string {
    return this.broken === '' ? wrong(this) : this.broken
  }

  /** What is wrong when nothing more will happen by itself. */
  private stuck(): string {
    // A second head may wait for a word of the operator's.
    if (this.heads.length > 1) return ''
    const [head] = this.heads
    if (head!.word === 'dead') return ''
    if (head!.word === 'idle') return 'nothing can happen, and the volume does not start'
    if (head!.jobs.length + head!.parked.length > 0) return 'nothing can happen, and a client waits'
    const out = head!.legs.filter((leg) => !inSync(head!, leg))
    return out.length > 0 ? `nothing can happen, and ${out[0]!.name} is not in sync` : ''
  }

  private offerClients(): void {
    const { clients, configuration } = this
    for (const head of this.heads) {
      if (head.word === 'dead' || head.word === 'halted') continue
      if (head.jobs.length + head.parked.length >= configuration.width) continue
      // Nobody asks a second head that never was one.
      if (head.index > 0 && head.word !== 'running') continue
      if (clients.writes > 0) this.moves.push((choose) => this.ask(head, 'write', choose))
      if (clients.flushes > 0) this.moves.push((choose) => this.ask(head, 'flush', choose))
    }
  }

  private ask(head: Head, kind: 'write' | 'flush', choose: Choose): string {
    const { clients, configuration } = this
    const id = configuration.writes + configuration.flushes - clients.writes - clients.flushes + 1
    const extent = kind === 'write' ? choose(configuration.extents) : 0
    if (kind === 'write') clients.writes--
    else clients.flushes--
    head.ask({
      id,
      kind,
      extent,
      value: id,
      covers: kind === 'flush' ? [...clients.acknowledged] : [],
      phase: 'range',
      pending: 0,
      failed: false,
      moment: 0,
    })
    return kind === 'write' ? `a client writes ${id} to extent ${extent}` : 'a client flushes'
  }

  private offerHeads(): void {
    for (const head of this.heads) {
      const { word } = head
      if (word === 'dead') this.moves.push(() => this.revive(head))
      else if (word === 'idle' && this.heads.length > 1) offerLook(this, head)
      else if (word === 'idle') {
        if (startsLate(this, head)) this.moves.push((choose) => start(this, head, choose))
      } else if (word === 'running') this.offerRun(head)
    }
    for (const [at, disk] of this.disks.entries())
      for (const { index } of this.heads) {
        if ((disk.away & (1 << index)) !== 0) this.offerBack(at, index)
        if ((disk.told & (1 << index)) !== 0) this.moves.push(() => hears(this, index, at))
      }
  }

  offerBack(at: number, head: number): void {
    this.moves.push(() => this.comesBack(at, head))
  }

  /** Whether the head can ask the leg, and is not refused there. */
  reaches(head: Head, at: number): boolean {
    const disk = this.disks[at]!
    const isAway = (disk.away & (1 << head.index)) !== 0
    return !isAway && (head.claim === 0 || !claiming.refuses(disk, head))
  }

  private revive(head: Head): string {
    head.word = 'idle'
    return 'a head starts'
  }

  private offerRun(head: Head): void {
    const run = head.run!
    if (head.parked.length > 0 && run.word === 'running' && run.inSync.length >= run.minInSync)
      this.moves.push(() => {
        head.unpark()
        return 'what waited is carried out'
      })
    for (const leg of head.legs) {
      if (this.mayReturn(head, leg)) this.moves.push(() => giveBack(this, head, leg))
      if (leg.stage !== 'syncing' || leg.finishing?.what === 'all') continue
      if (this.clients.checkpoints > 0 && leg.finishing === null && leg.dirty!.hasCopied)
        this.moves.push(() => this.checkpoint(head, leg))
      for (let extent = 0; extent < this.configuration.extents; extent++)
        if (mayCopy(head, leg, extent)) this.moves.push(() => copy(this, head, leg, extent))
    }
    const mayClean = this.clients.cleanings > 0 && run.word === 'running' && run.cleaning === null
    if (mayClean && this.hasIdle(head))
      this.moves.push(() => {
        this.clients.cleanings--
        head.tell({ kind: 'clean', moment: head.log.moment })
        return 'the log is cleaned'
      })
  }

  private checkpoint(head: Head, leg: HeadLeg): string {
    this.clients.checkpoints--
    head.tell({ kind: 'copied', leg, what: 'some' })
    return `what was copied to ${leg.name} is made durable`
  }

  private hasIdle({ log }: Head): boolean {
    let idle = false
    log.forEachIdle(log.moment, () => (idle = true))
    return idle
  }

  mayReturn(head: Head, leg: HeadLeg): boolean {
    return (
      head.run!.word === 'running' &&
      leg.stage === 'absent' &&
      leg.coming === null &&
      this.reaches(head, leg.index) &&
      (head.unwanted & leg.bit) === 0 &&
      !this.hasOps(leg.index, head)
    )
  }

  /** Whether anything is under way on the leg. */
  hasOps(leg: number, { index }: Head): boolean {
    // What a process of before left is refused once the leg is claimed.
    const isHeeded = ({ head, ghost }: Op): boolean =>
      this.heads.length === 1 || (head === index && ghost !== 'may-land')
    return this.ops.some((op) => op.leg === leg && op.kind !== 'save' && isHeeded(op))
  }

  private comesBack(at: number, head: number): string {
    const disk = this.disks[at]!
    disk.away &= ~(1 << head)
    disk.examined = true
    this.tellDevice(this.heads[head]!, at)
    return `${nameOf(at)} is there again${this.heads.length > 1 ? ` for ${nameHead(head)}` : ''}`
  }

  private offerOps(): void {
    const together = offerClaims(this)
    for (const [at, { kind, ghost, head }] of this.ops.entries()) {
      if (kind === 'claim' && ghost === 'no' && head === together?.index) continue
      // A store saves in order.
      if (kind !== 'save' || ghost !== 'no' || !this.savesLate(head)) this.offerOp(at)
    }
  }

  private savesLate(of: number): boolean {
    return this.ops.some(
      ({ kind, ghost, head }) => kind === 'save' && ghost !== 'no' && head === of,
    )
  }

  /** Something under way is carried out, or never will be. */
  offerOp(at: number): void {
    this.moves.push((choose) => land(this, this.ops[at]!, choose))
    if (this.ops[at]!.ghost === 'may-land') this.moves.push(() => vanish(this, this.ops[at]!))
  }

  /** The device says that something has changed. */
  tellDevice(head: Head, at: number): void {
    const { away, boot } = this.disks[at]!
    const bootId = String.fromCharCode(boot)
    const word = (away & (1 << head.index)) === 0 ? 'there' : 'away'
    const writing = head.jobs.some(({ kind }) => kind === 'write')
    head.unwanted &= ~(1 << at)
    const now = { word, bootId, state: 'missing', writing, reason: 'gone' } as const
    head.tell({ kind: 'device', leg: head.legs[at]!, now })
    lookForCopied(head)
  }
}
