import { systemError } from '../base/errors.ts'
import { failed } from './departure.ts'
import type { Leg } from './leg.ts'
import { historyGenerationsMax, sameGeneration, type VolumeRecord } from './record.ts'
import type { Volume } from './volume.ts'

/** Whoever may not go on before the membership is durable. */
export interface MembershipWaiter {
  durable(): void
}

/** Entries of the history that superblocks carry: the head's own record has all. */
const superblockEntriesMax = 16
const saveRetryMs = 500

/**
 * Makes changes of the record durable, in order and in batches: first in the head's own record,
 * then in the superblock of every leg in sync, then in the own record that a new generation is on
 * all of them; only then goes on who waits for it. A leg whose superblock cannot be written leaves,
 * which is the next change.
 */
export class Membership {
  private readonly volume: Volume
  private readonly epoch: number
  private requested = 0
  private durable = 0
  private newGeneration = false
  private running = false
  private waiters: { version: number; waiter: MembershipWaiter }[] = []

  constructor(volume: Volume) {
    this.volume = volume
    this.epoch = volume.epoch
  }

  /** Whether a change was requested that is not durable yet. */
  get pending(): boolean {
    return this.durable !== this.requested
  }

  /** The record was changed; with `generation`, so were the legs in sync. */
  request(generation: boolean): void {
    this.requested++
    this.newGeneration ||= generation
    void this.run()
  }

  /** Tells `waiter` when everything requested by now is durable; never, if the volume stops. */
  wait(waiter: MembershipWaiter): void {
    this.waiters.push({ version: this.requested, waiter })
  }

  /** Resolves when everything requested by now is durable, or the volume stopped. */
  settled(): Promise<void> {
    if (!this.pending || this.volume.epoch !== this.epoch) return Promise.resolve()
    return new Promise((resolve) => {
      this.wait({ durable: resolve })
    })
  }

  /** Resolves when the record, as it is then, may be told to a leg: all of it is durable. */
  async quiet(): Promise<void> {
    while (this.pending && this.current()) await this.settled()
  }

  /** The volume stops: lets go of those who only want to know. */
  stop(): void {
    const { waiters } = this
    this.waiters = []
    for (const { waiter } of waiters) waiter.durable()
  }

  private async run(): Promise<void> {
    if (this.running) return
    this.running = true
    // Several legs that fail in one turn of the loop are one change.
    await Promise.resolve()
    while (this.pending && this.volume.epoch === this.epoch) {
      const version = this.requested
      if (!(await this.saveRound())) continue
      this.durable = version
      this.release(version)
    }
    this.running = false
  }

  /** Whether the record as it is now is durable everywhere. */
  private async saveRound(): Promise<boolean> {
    const { volume } = this
    const record = volume.record!
    if (this.newGeneration) {
      this.newGeneration = false
      advance(record, volume.newId(16), volume.counterFloor)
      volume.unserved = volume.word === 'starting' ? record.generation.id : ''
    }
    const { generation } = record
    const text = JSON.stringify(record)
    if (!(await this.saveHead(text))) return false
    const saved = JSON.parse(text) as VolumeRecord
    const copy = { ...saved, entries: saved.entries.slice(-superblockEntriesMax) }
    const write = async (leg: Leg): Promise<boolean> => {
      try {
        await leg.writeSuperblock(copy)
        return true
      } catch (error) {
        const failure = systemError(error, 'writing the superblock', leg.device.path)
        failed(volume, leg, 'metadata', failure)
        return false
      }
    }
    const written = await Promise.all(volume.keepers.map(write))
    const whole = written.every((one) => one)
    if (volume.epoch !== this.epoch || !whole) return false
    if (sameGeneration(record.base, generation)) return true
    record.base = generation
    // Before anything is acknowledged in it: a leg in sync that shows an older one was put back.
    return this.saveHead(JSON.stringify({ ...saved, base: generation }))
  }

  private async saveHead(text: string): Promise<boolean> {
    const { volume } = this
    const deadline = volume.clock.now() + volume.settings.suspendMs
    while (this.current()) {
      try {
        await volume.store?.save(volume.key, text)
        if (this.current()) return true
        // A run that ended meanwhile: a start that waits may go by what is saved only now.
        volume.lookAgain()
        return false
      } catch (error) {
        volume.log.error({ err: error, volume: volume.path }, 'the head cannot save its record')
        if (volume.clock.now() >= deadline) {
          // Nothing was acknowledged since; whoever mends it need not tell.
          volume.retreat('the state directory cannot be written')
          volume.retryLater()
          return false
        }
        await volume.pause(saveRetryMs)
      }
    }
    return false
  }

  private current(): boolean {
    return this.volume.epoch === this.epoch
  }

  private release(version: number): void {
    const ready = this.waiters.filter((entry) => entry.version <= version)
    this.waiters = this.waiters.filter((entry) => entry.version > version)
    for (const { waiter } of ready) waiter.durable()
  }
}

/** The next generation: of another membership, and never of any other head's. */
export function advance(record: VolumeRecord, id: string, floor: number): void {
  record.history.unshift(record.generation)
  record.history.length = Math.min(record.history.length, historyGenerationsMax)
  record.generation = { counter: Math.max(record.generation.counter, floor) + 1, id }
}
