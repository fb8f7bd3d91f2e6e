import type { Entrance, Export, Exports } from '../export/export.ts'
import { Rules, type Right } from '../export/rights.ts'
import { local, type Identity } from '../net/identity.ts'

/** An export and who may do what with it. */
export interface Ruled {
  readonly exported: Export
  readonly rules: Rules
}

interface Granted {
  readonly exported: Export
  readonly may: readonly Right[]
}

/** What a client sees: an export that it may not list it may still find by name. */
function viewOf(granted: readonly Granted[]): Exports {
  const usable = granted.filter(({ may }) => may.includes('read'))
  const byName = new Map(usable.map(({ exported }) => [exported.name, exported]))
  const listed = granted.filter(({ may }) => may.includes('list')).map((each) => each.exported)
  return { find: (name) => byName.get(name), list: () => listed }
}

/** The exports of a target, and what of them each client sees. */
export class ExportTable implements Exports {
  private readonly ruled: ReadonlyMap<string, Ruled>
  /** Exports as clients with fewer rights have them, by name and rights. */
  private readonly restricted = new Map<string, Export>()
  /** By all rights in them: as many as the rules can tell clients apart. */
  private readonly views = new Map<string, Exports>()

  constructor(exports: readonly Ruled[]) {
    this.ruled = new Map(exports.map((each) => [each.exported.name, each]))
  }

  find(name: string): Export | undefined {
    return this.ruled.get(name)?.exported
  }

  list(): readonly Export[] {
    return Array.from(this.ruled.values(), ({ exported }) => exported)
  }

  /** The way in at a listener that serves the exports of these names; undefined: all. */
  entrance(names?: readonly string[]): Entrance {
    const served = [...this.ruled.values()].filter(
      ({ exported }) => names === undefined || names.includes(exported.name),
    )
    if (served.some(({ rules }) => rules.differ))
      return { seenBy: (identity) => this.view(served, identity) }
    const view = this.view(served, local)
    return { seenBy: () => view }
  }

  private view(served: readonly Ruled[], identity: Identity): Exports {
    const may = served.map(({ rules }) => rules.of(identity))
    const key = JSON.stringify(served.map(({ exported: { name } }, at) => [name, may[at]]))
    const known = this.views.get(key)
    if (known !== undefined) return known
    const granted = served.map(({ exported }, at) => {
      return { exported: this.restrict(exported, may[at]!), may: may[at]! }
    })
    const made = viewOf(granted)
    this.views.set(key, made)
    return made
  }

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
