import type { Clock } from '../base/clock.ts'
import { inTime } from '../base/deadline.ts'
import { fromJson, isMoment, isObject } from '../base/guards.ts'
import type { StateStore } from '../base/store.ts'

/** The key of the record. No device's has it: two digits follow each `_` there, see `keyOf`. */
const key = '_commands'

/** A change to a leg by a command that the configuration does not have. */
interface Change {
  readonly volume: string
  readonly leg: string
  readonly what: 'added' | 'removed'
  /** Wall clock, milliseconds. */
  readonly at: number
}

/** The configured legs of each volume. */
export type ConfiguredLegs = ReadonlyMap<string, ReadonlySet<string>>

/**
 * Remembers changes by commands, also over a restart, until the configuration has them: the next
 * start would undo them, and nothing else would warn of that.
 */
export class Changes {
  private readonly store: StateStore
  private readonly clock: Clock
  private readonly configured: ConfiguredLegs
  private changes: readonly Change[] = []

  constructor(store: StateStore, clock: Clock, configured: ConfiguredLegs) {
    this.store = store
    this.clock = clock
    this.configured = configured
  }

  /** A sentence for each change that the configuration does not have. */
  get warnings(): readonly string[] {
    return this.changes.map((change) => this.sentence(change))
  }

  /** Loads the changes of earlier runs that the configuration does not have yet. Never rejects. */
  async load(): Promise<void> {
    const text = await this.store.load(key).catch(() => null)
    if (text !== null) this.changes = parse(text).filter((change) => this.differs(change))
  }

  /** Remembers a change. Resolves to the warning about it, '' if the configuration has it. */
  async note(volume: string, leg: string, what: Change['what']): Promise<string> {
    const others = this.changes.filter((one) => one.volume !== volume || one.leg !== leg)
    const change = { volume, leg, what, at: Math.floor(this.clock.wall()) }
    const differs = this.differs(change)
    this.changes = differs ? [...others, change] : others
    // The command succeeds also if its change cannot be saved.
    const saved = this.store.save(key, JSON.stringify(this.changes))
    await inTime(this.clock, saved, 'the state directory').catch(() => undefined)
    return differs ? this.sentence(change) : ''
  }

  private differs({ volume, leg, what }: Change): boolean {
    const has = this.configured.get(volume)?.has(leg) === true
    return what === 'added' ? !has : has
  }

  private sentence({ volume, leg, what, at }: Change): string {
    const when = new Date(at).toISOString().slice(0, 16).replace('T', ' ')
    return what === 'added'
      ? `leg ${leg} of ${volume} was added by a command at ${when} and is not in the ` +
          'configuration: a start does without it and forgets it'
      : `leg ${leg} of ${volume} was removed by a command at ${when} and is in the ` +
          'configuration: a start makes it a leg again and fills it'
  }
}

/** Reads the record, without entries that make no sense: any program may have written the file. */
function parse(text: string): Change[] {
  const value = fromJson(text)
  return Array.isArray(value) ? value.filter(isChange) : []
}

function isChange(value: unknown): value is Change {
  if (!isObject(value)) return false
  const { volume, leg, what, at } = value
  const named = typeof volume === 'string' && typeof leg === 'string'
  return named && isMoment(at) && (what === 'added' || what === 'removed')
}
