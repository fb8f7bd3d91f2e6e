import type { VolumeRecord } from '../../src/mirror/record.ts'
import type { Coming, Finishing, RunLeg, Stage } from '../../src/mirror/rules/run.ts'
import type { Written } from '../../src/mirror/rules/writing.ts'
import type { Lacks, Set8 } from './books.ts'
import type { Snapshot } from './codec.ts'
import type { Configuration } from './config.ts'

/** One leg as a head knows it. */
export class HeadLeg implements RunLeg {
  readonly index: number
  readonly name: string
  readonly bit: number
  member: VolumeRecord['members'][number]
  stage: Stage = 'absent'
  dirty: Lacks | null = null
  unflushed: Set8 | null = null
  flushedMoment = 0
  bootId = ''
  readErrors = 0
  announcedBy = 0
  coming: Coming | null = null
  finishing: Finishing | null = null

  constructor(index: number, member: VolumeRecord['members'][number]) {
    this.index = index
    this.bit = 1 << index
    this.name = member.name
    this.member = member
  }

  /** Nothing is left of a run. */
  clear(): void {
    this.stage = 'absent'
    this.dirty = null
    this.unflushed = null
    this.flushedMoment = 0
    this.announcedBy = 0
    this.coming = null
    this.finishing = null
  }
}

/** A request of a client. */
export interface Job {
  id: number
  readonly kind: 'write' | 'flush'
  /** Of a write. */
  readonly extent: number
  value: number
  /** Of a flush: what was acknowledged of each extent before it began. */
  covers: number[]
  /** What it waits for: its range, the log, answers of legs, the rules. */
  phase: 'range' | 'log' | 'legs' | 'settled'
  /** Legs that have not answered. */
  pending: number
  failed: boolean
  /** Of a flush: what it covers. */
  moment: number
}

/** An extent has one byte here. */
export function extentsOf({ extent }: Job): Written {
  return { rangeFrom: extent, rangeTo: extent + 1 }
}

export type OpKind =
  'write' | 'copy' | 'flush' | 'log' | 'lacks' | 'all' | 'stamp' | 'superblock' | 'save' | 'claim'

/** Something under way on a leg, or in the head's own store. */
export interface Op {
  readonly kind: OpKind
  readonly head: number
  readonly leg: number
  /** The head waits for it; does not any more; is dead, so that it may never arrive. */
  ghost: 'no' | 'lands' | 'may-land'
  /** Of a write or a flush of a client: its id. Of others: the version of the record. */
  readonly job: number
  readonly extent: number
  /** What is written: a value; the log; what legs lack, three bits for each; a claim. */
  readonly value: number
  readonly why: 'client' | 'copied' | 'clean' | 'start'
  readonly moment: number
  readonly snapshot: Snapshot | null
  /** With what its head claimed the leg. */
  readonly claim: number
}

/** What a head does to the world. */
export interface Surroundings {
  readonly configuration: Configuration
  submit(op: Op): void
  /** The head waits no more for what it has under way on the leg. */
  abandon(head: number, leg: number): void
  /** Nor for its record. */
  abandonSave(head: number): void
  acknowledged(job: Job, head: number): void
  /** Clients are told that what they wrote and did not flush may be gone. */
  tellLoss(): void
  failed(job: Job): void
}
