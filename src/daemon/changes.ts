import type { Clock } from '../base/clock.ts'
import { inTime } from '../base/deadline.ts'
import { isObject } from '../base/guards.ts'
import type { StateStore } from '../base/store.ts'

/** No device's record has this name: a `_` is always followed by two digits there, see `keyOf`. */
const key = '_commands'

/** What a command did to a leg, and the configuration does not say. */
interface Change {
  readonly volume: string
  readonly leg: string
  readonly what: 'added' | 'removed'
  /** Wall clock, milliseconds. */
  readonly at: number
}

/** The legs of each volume by the configuration. */
export type ConfiguredLegs = ReadonlyMap<string, ReadonlySet<string>>

/**
 * Remembers, also over a restart, what commands changed until the configuration says the same: the
 * next start would undo it, and nothing else would tell.
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

  /** Sentences, one for each change that the configuration does not have. */
  get warnings(): readonly string[] {
    return this.changes.map((change) => this.sentence(change))
  }

  /** What earlier runs left; what the configuration says by now is forgotten. Never rejects. */
  async load(): Promise<void> {
    const text = await this.store.load(key).catch(() => null)
    if (text !== null) this.changes = parse(text).filter((change) => this.differs(change))
  }

  /** Remembers a change; the warning about it, '' where the configuration says the same. */
  async note(volume: string, leg: string, what: Change['what']): Promise<string> {
    const others = this.changes.filter((one) => one.volume !== volume || one.leg !== leg)
    const change = { volume, leg, what, at: Math.floor(this.clock.wall()) }
    const differs = this.differs(change)
    this.changes = differs ? [...others, change] : others
    // It is carried out, whether it can be remembered or not.
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

/** Nothing of what makes no sense: the file may be anybody's. */
function parse(text: string): Change[] {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return []
  }
  return Array.isArray(value) ? value.filter(isChange) : []
}

/** Wall clock, milliseconds: the last that a date can be. */
const wallMax = 8.64e15

function isChange(value: unknown): value is Change {
  if (!isObject(value)) return false
  const { volume, leg, what, at } = value
  const named = typeof volume === 'string' && typeof leg === 'string'
  const dated = typeof at === 'number' && at >= 0 && at <= wallMax
  return named && dated && (what === 'added' || what === 'removed')
}
