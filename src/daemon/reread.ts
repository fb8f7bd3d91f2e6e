import { StorageError, systemError } from '../base/errors.ts'
import type * as config from '../config/config.types.ts'
import { checkRights } from '../config/rights.ts'
import type { Problem } from '../config/source.ts'
import type { Terms } from './exports.ts'

type TermsByName = Readonly<Record<string, Terms>>

/** Reads the rules and limits of exports anew. The rest of a configuration wants a restart. */
export class Reread {
  /** Why what is written is not what is in force; '' when it is. */
  problem = ''
  private readonly running: config.Config

  constructor(running: config.Config) {
    this.running = running
  }

  /** What holds for each export from now on; null where that cannot be, and nothing changes. */
  terms(read: () => config.Config): TermsByName | null {
    try {
      const { exports } = read()
      const next = merged(this.running, exports)
      // With the listeners that there are, not those that are written: these may be out of reach.
      const problems: Problem[] = []
      checkRights({ ...next }, problems)
      const [first] = problems
      if (first !== undefined) throw new StorageError('CONFIG', first.what)
      this.problem = ''
      return next.exports
    } catch (error) {
      const [reason = ''] = systemError(error, 'reading the configuration').message.split('\n')
      this.problem = `the rules of exports were not read: ${reason}; those from before hold`
      return null
    }
  }
}

/** The running configuration with other rules and limits, for the exports that both have. */
function merged(running: config.Config, exports: config.Config['exports']): config.Config {
  const entries = Object.entries(running.exports).map(([name, each]) => {
    const written = Object.hasOwn(exports, name) ? exports[name]! : each
    const { device, readOnly, description } = each
    const { allow, limits } = written
    const rules = allow === undefined ? {} : { allow }
    const pace = limits === undefined ? {} : { limits }
    return [name, { device, readOnly, description, ...rules, ...pace }]
  })
  return { ...running, exports: Object.fromEntries(entries) as config.Config['exports'] }
}
