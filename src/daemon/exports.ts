import type { Clock } from '../base/clock.ts'
import type { Entrance, Export, Exports } from '../export/export.ts'
import { Pace } from '../export/pace.ts'
import { rights, Rules, type Right } from '../export/rights.ts'
import type { Identity } from '../net/identity.ts'
import type * as config from '../config/config.types.ts'
import { ratesOf } from '../config/quantities.ts'

/** What of an export's configuration may change while the target runs. */
export type Terms = Pick<config.Export, 'allow' | 'limits'>

/** A pace with whom it is for, as `status` shows it. */
export interface PaceOf {
  /** The place of the rule; null for the clients of all rules without limits of their own. */
  readonly rule: number | null
  readonly pace: Pace
}

/** An export and who may do what with it, how fast. */
class Ruled {
  readonly exported: Export
  rules = new Rules(null)
  private readonly clock: Clock
  /** For clients whose rule says nothing of its own. */
  private readonly common: Pace
  /** By whom the rule is for, so that they outlive a change of the others. */
  private own = new Map<string, Pace>()
  /** By the place of the rule. */
  private byRule: readonly (Pace | null)[] = []

  constructor(exported: Export, clock: Clock) {
    this.exported = exported
    this.clock = clock
    this.common = new Pace(clock)
  }

  /** Has these rules and limits from now on. */
  apply({ allow, limits }: Terms): void {
    const own = new Map<string, Pace>()
    this.rules = new Rules(allow ?? null)
    this.common.become(ratesOf(limits))
    this.byRule = (allow ?? []).map(({ psk, certificate, address, unix, limits }) => {
      if (limits === undefined) return null
      const key = JSON.stringify([psk, certificate, address, unix])
      const pace = own.get(key) ?? this.own.get(key) ?? new Pace(this.clock)
      // Of two rules for the same clients, the first counts.
      if (!own.has(key)) pace.become(ratesOf(limits))
      own.set(key, pace)
      return pace
    })
    this.own = own
  }

  paceFor(identity: Identity): Pace {
    return this.byRule[this.rules.placeFor(identity)] ?? this.common
  }

  get paces(): readonly PaceOf[] {
    const own = this.byRule.flatMap((pace, rule) => (pace === null ? [] : [{ rule, pace }]))
    return [{ rule: null, pace: this.common }, ...own].filter(({ pace }) => pace.limited)
  }
}

/** Exports by name, all of which are listed. */
class View implements Exports {
  private readonly byName: ReadonlyMap<string, Export>
  private readonly listed: readonly Export[]

  constructor(granted: readonly Granted[]) {
    const usable = granted.filter(({ may }) => may.includes('read'))
    this.byName = new Map(usable.map(({ exported }) => [exported.name, exported]))
    this.listed = granted.filter(({ may }) => may.includes('list')).map((each) => each.exported)
  }

  find(name: string): Export | undefined {
    return this.byName.get(name)
  }

  list(): readonly Export[] {
    return this.listed
  }
}

interface Granted {
  readonly exported: Export
  readonly may: readonly Right[]
}

/** The exports of a target, and what of them each client sees. */
export class ExportTable implements Exports {
  private readonly ruled: ReadonlyMap<string, Ruled>
  /** Exports as clients with fewer rights have them, by name and rights. */
  private readonly restricted = new Map<string, Export>()
  /** By all rights in them: as many as the rules can tell clients apart. */
  private readonly views = new Map<string, View>()

  constructor(exports: readonly Export[], clock: Clock) {
    this.ruled = new Map(exports.map((exported) => [exported.name, new Ruled(exported, clock)]))
  }

  /** Gives exports other rules and limits; those that are not named keep theirs. */
  apply(terms: Readonly<Record<string, Terms>>): void {
    this.views.clear()
    for (const [name, each] of Object.entries(terms)) this.ruled.get(name)?.apply(each)
  }

  find(name: string): Export | undefined {
    return this.ruled.get(name)?.exported
  }

  list(): readonly Export[] {
    return Array.from(this.ruled.values(), ({ exported }) => exported)
  }

  /** The limits of an export that are in force. */
  pacesOf(name: string): readonly PaceOf[] {
    return this.ruled.get(name)?.paces ?? []
  }

  /** The way in at a listener that serves the exports of these names; undefined: all. */
  entrance(names?: readonly string[]): Entrance {
    const served = [...this.ruled.values()].filter(
      ({ exported }) => names === undefined || names.includes(exported.name),
    )
    const all = new View(served.map(({ exported }) => ({ exported, may: rights })))
    return {
      seenBy: (identity) => {
        return served.some(({ rules }) => rules.differ) ? this.view(served, identity) : all
      },
      paceOf: (identity, name) => this.ruled.get(name)?.paceFor(identity) ?? null,
    }
  }

  private view(served: readonly Ruled[], identity: Identity): View {
    const may = served.map(({ rules }) => rules.of(identity))
    const key = JSON.stringify(served.map(({ exported: { name } }, at) => [name, may[at]]))
    const known = this.views.get(key)
    if (known !== undefined) return known
    const granted = served.map(({ exported }, at) => {
      return { exported: this.restrict(exported, may[at]!), may: may[at]! }
    })
    const made = new View(granted)
    this.views.set(key, made)
    return made
  }

  /** The same object each time, also after a change of the rules: a client keeps what it has. */
  private restrict(exported: Export, may: readonly Right[]): Export {
    const readOnly = exported.readOnly || !may.includes('write')
    const mayClaim = may.includes('claim')
    if (readOnly === exported.readOnly && mayClaim) return exported
    const key = JSON.stringify([exported.name, readOnly, mayClaim])
    const one = this.restricted.get(key) ?? { ...exported, readOnly, mayClaim }
    this.restricted.set(key, one)
    return one
  }
}
