import type { Export, Exports } from '../export/export.ts'

/** The exports of a target, by name. */
export class ExportTable implements Exports {
  private readonly byName: ReadonlyMap<string, Export>

  constructor(exports: readonly Export[]) {
    this.byName = new Map(exports.map((each) => [each.name, each]))
  }

  find(name: string): Export | undefined {
    return this.byName.get(name)
  }

  list(): readonly Export[] {
    return [...this.byName.values()]
  }
}
