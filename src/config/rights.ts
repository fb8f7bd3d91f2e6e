import { isIPv4 } from 'node:net'
import { isObject } from '../base/guards.ts'
import { parseRange } from '../export/rights.ts'
import { parseAddress } from '../net/address.ts'
import { defaultPorts } from '../net/uri.ts'
import { speedMin } from './quantity-check.ts'
import { sizeOf } from './quantities.ts'
import { step, type Problem } from './source.ts'
import { suggestion } from './suggest.ts'
import { elements, entries, type Loose } from './tree.ts'

/** Checks who may reach the exports, and do what with them. */
export function checkRights(config: Loose, problems: Problem[]): void {
  const { exports, listeners } = config
  const known = entries(exports, '/exports')
  const names = known.map(({ label }) => label)
  const isFree = ({ value }: (typeof known)[number]): boolean =>
    isObject(value) && value['allow'] === undefined
  const free = known.filter(isFree).map(({ label }) => label)
  for (const { value, pointer } of elements(listeners, '/listeners'))
    if (isObject(value)) checkListener(value, pointer, { names, free, problems })
  for (const { value, pointer } of known)
    if (isObject(value)) {
      checkPace(value['limits'], step(pointer, 'limits'), problems)
      for (const rule of elements(value['allow'], step(pointer, 'allow')))
        if (isObject(rule.value)) checkRule(rule.value, rule.pointer, problems)
    }
}

function checkPace(limits: unknown, pointer: string, problems: Problem[]): void {
  if (!isObject(limits)) return
  for (const name of ['bytesPerSecond', 'bytesBurst']) {
    const bytes = sizeOf(limits[name])
    if (bytes !== null && bytes < speedMin)
      problems.push({ what: `at least ${speedMin} bytes are needed`, pointer: step(pointer, name) })
  }
  for (const [burst, rate] of Object.entries({
    operationsBurst: 'operationsPerSecond',
    bytesBurst: 'bytesPerSecond',
  }))
    if (limits[burst] !== undefined && limits[rate] === undefined)
      problems.push({ what: `it needs "${rate}"`, pointer: step(pointer, burst) })
}

interface Known {
  readonly names: readonly string[]
  /** The names of exports without rules. */
  readonly free: readonly string[]
  readonly problems: Problem[]
}

function checkListener(listener: Loose, pointer: string, known: Known): void {
  const { names, free, problems } = known
  const { address, exports, open, tls, credentials } = listener
  for (const { value: name, pointer: at } of elements(exports, step(pointer, 'exports')))
    if (typeof name === 'string' && !names.includes(name)) {
      const what = `there is no export "${name}"${suggestion(name, names)}`
      problems.push({ what, pointer: at })
    }
  const place = step(pointer, 'address')
  // One problem of an address is enough.
  if (problems.some((problem) => problem.pointer === place)) return
  const sealed = tls === 'required' || (tls === undefined && credentials !== undefined)
  if (typeof address !== 'string' || open === true || !isBeyond(address)) return
  const served = Array.isArray(exports) ? free.filter((name) => exports.includes(name)) : free
  if (sealed && served.length === 0) return
  const why = sealed
    ? `and all who prove who they are may do everything with "${served[0]!}", which has no "allow"`
    : 'and nothing is asked of them: "credentials" for TLS are missing'
  const what =
    `other machines reach "${address}", ${why}; "open": true says that everybody may use its ` +
    'exports who can'
  problems.push({ what, pointer: place })
}

/** Whether other machines may reach the address. One that is wrong is reported elsewhere. */
export function isBeyond(text: string): boolean {
  const address = parseAddress(text, defaultPorts.dst)
  if (address === null || address.kind === 'unix') return false
  const { host } = address
  if (isIPv4(host)) return !host.startsWith('127.')
  return host !== '::1' && host !== 'localhost'
}

/** What a right needs besides. */
const needs = { write: 'read', claim: 'write' } as const

/** How a rule says who it is for. */
const whom = ['psk', 'certificate', 'address', 'unix'] as const

function checkRule(rule: Loose, pointer: string, problems: Problem[]): void {
  const { address, may, limits } = rule
  checkPace(limits, step(pointer, 'limits'), problems)
  if (whom.every((each) => rule[each] === undefined))
    problems.push({ what: `the rule does not say who it is for: ${whom.join(', ')}`, pointer })
  checkRange(address, pointer, problems)
  if (!Array.isArray(may)) return
  for (const [right, needed] of Object.entries(needs))
    if (may.includes(right) && !may.includes(needed)) {
      const what = `"${right}" needs "${needed}"`
      problems.push({ what, pointer: step(pointer, 'may') })
    }
}

/** Checks the address of a rule. */
export function checkRange(address: unknown, pointer: string, problems: Problem[]): void {
  if (typeof address !== 'string' || parseRange(address) !== null) return
  const what = `found "${address}": an IP address, or a range such as 10.0.0.0/8 or fd00::/8`
  problems.push({ what, pointer: step(pointer, 'address') })
}
