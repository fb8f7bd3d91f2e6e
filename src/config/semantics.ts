import { isObject } from '../base/guards.ts'
import { formatUri, parseUri } from '../net/uri.ts'
import { checkAddresses, checkLimits, checkUri } from './values.ts'
import { checkQuantities } from './quantity-check.ts'
import { checkDevices, warnOfDevices } from './devices.ts'
import { checkCredentials, warnOfTls } from './credentials.ts'
import { checkKeys } from './keys.ts'
import { checkAudit, checkFiles } from './files.ts'
import { checkManagements } from './management.ts'
import { checkRights } from './rights.ts'
import { step, type Problem } from './source.ts'
import { nearest, suggestion } from './suggest.ts'
import { childrenOf, devicesDeepMax, entries, type Loose, type Place, type Node } from './tree.ts'

/**
 * Files have to be there and usable now (`needed`), or their devices wait for them (`awaited`), or
 * they are not looked at (`unseen`): that may take long where a disk hangs.
 */
export type FilesAre = 'needed' | 'awaited' | 'unseen'

/** Problems, and warnings of settings that do not hold as they are written. */
export interface Meaning {
  readonly problems: readonly Problem[]
  readonly warnings: readonly Problem[]
}

/**
 * Checks what a schema cannot: that names are defined, that a device has one parent, that files are
 * there. `config` may be wrong in ways that the schema has already reported; such parts are passed
 * over. Its paths are absolute.
 */
export function checkMeaning(config: Loose, look: FilesAre): Meaning {
  const problems: Problem[] = []
  const tree = new Tree(config, problems)
  tree.checkNesting()
  tree.checkExports(config['exports'])
  if (look !== 'unseen') {
    const { mistakes, conditions } = checkFiles(tree.nodes)
    checkAudit(config['audit'], tree.nodes, problems)
    problems.push(...mistakes, ...(look === 'needed' ? conditions : []))
  }
  if (look === 'needed') problems.push(...checkKeys(tree.nodes))
  checkUris(tree.nodes, problems)
  checkDevices(tree.nodes, problems)
  checkAddresses(config, problems)
  checkRights(config, problems)
  checkManagements(config, problems)
  checkCredentials(config, tree.nodes, problems)
  checkQuantities(config, '', problems)
  checkLimits(config['limits'], problems)
  // A wrong tree may have cycles, in which a search for warnings would not end.
  const right = problems.length === 0
  const warnings = right ? warnOfDevices(tree.nodes, (name) => tree.find(name)) : []
  return { problems, warnings: [...warnings, ...(right ? warnOfTls(config) : [])] }
}

class Tree {
  readonly nodes: Node[] = []
  private readonly problems: Problem[]
  private readonly named: ReadonlyMap<string, Place>
  /** The pointers of each use of a named device as a child. */
  private readonly claims = new Map<string, string[]>()
  private readonly paths = new Set<string>()

  constructor(config: Loose, problems: Problem[]) {
    this.problems = problems
    this.named = new Map(entries(config['devices'], '/devices').map((each) => [each.label, each]))
    for (const { value, label, pointer } of this.named.values()) this.visit(value, pointer, label)
    for (const [name, places] of this.claims)
      if (places.length > 1)
        for (const pointer of places.slice(1))
          this.problems.push({
            what: `"${name}" is already part of another device (${places[0]!}): it can be of one`,
            pointer,
          })
  }

  find(name: string): unknown {
    return this.named.get(name)?.value
  }

  private visit(value: unknown, pointer: string, path: string): void {
    if (!isObject(value)) return
    this.nodes.push({ device: value, pointer, path })
    this.paths.add(path)
    for (const child of childrenOf(value, pointer))
      if (typeof child.value === 'string') this.claim(child.value, child.pointer)
      else this.visit(child.value, child.pointer, `${path}/${child.label}`)
  }

  private claim(name: string, pointer: string): void {
    if (this.named.has(name)) this.claims.set(name, [...(this.claims.get(name) ?? []), pointer])
    else this.problems.push({ what: this.unknown(name), pointer })
  }

  private unknown(name: string): string {
    const known = [...this.named.keys()]
    const list = known.length > 20 ? `${known.length} devices` : known.join(', ')
    return `no device is named "${name}"${suggestion(name, known)}; there are: ${list}`
  }

  /** Reports each cycle once, where it is closed, and once that devices are nested too deep. */
  checkNesting(): void {
    const heights = new Map<string, number>()
    let reported = false
    const report = (pointer: string): void => {
      const what = `devices can be nested at most ${devicesDeepMax} deep`
      if (!reported) this.problems.push({ what, pointer })
      reported = true
    }
    const enter = (name: string, trail: readonly string[], pointer: string): number => {
      const start = this.named.get(name)
      const known = heights.get(name)
      if (start === undefined || known !== undefined) return known ?? 0
      const from = trail.indexOf(name)
      if (from !== -1) {
        const cycle = [...trail.slice(from), name].join(' → ')
        this.problems.push({ what: `a device cannot contain itself: ${cycle}`, pointer })
        return 0
      }
      if (trail.length === devicesDeepMax) {
        report(pointer)
        return 0
      }
      const height = measure(start.value, start.pointer, [...trail, name])
      heights.set(name, height)
      return height
    }
    /** The levels of devices from this one down. */
    const measure = (value: unknown, pointer: string, trail: readonly string[]): number => {
      if (typeof value === 'string') return enter(value, trail, pointer)
      if (!isObject(value)) return 0
      const below = childrenOf(value, pointer).map((child) =>
        measure(child.value, child.pointer, trail),
      )
      const height = 1 + Math.max(0, ...below)
      if (height <= devicesDeepMax) return height
      report(pointer)
      return 0
    }
    for (const [name, { pointer }] of this.named) enter(name, [], pointer)
  }

  checkExports(exports: unknown): void {
    for (const { value, label, pointer } of entries(exports, '/exports')) {
      if (!isObject(value) || typeof value['device'] !== 'string') continue
      const name = value['device']
      const inner = name.includes('/')
      const place = step(pointer, 'device')
      if (!this.paths.has(name)) {
        const meant = inner ? nearest(name, [...this.paths]) : null
        const what = inner
          ? `no device is at "${name}"${meant === null ? '' : ` (did you mean "${meant}"?)`}`
          : this.unknown(name)
        this.problems.push({ what, pointer: place })
      } else if ((inner || this.claims.has(name)) && value['readOnly'] !== true) {
        const what = `"${name}" is part of another device, so "${label}" needs "readOnly": true`
        this.problems.push({ what, pointer: place })
      }
    }
  }
}

/** Checks that URIs are valid and different: two legs on one export mirror nothing. */
function checkUris(nodes: readonly Node[], problems: Problem[]): void {
  const seen = new Map<string, string>()
  for (const { device, pointer, path } of nodes) {
    const { type, uri } = device
    if (typeof uri !== 'string' || (type !== 'remote' && type !== 'nbd')) continue
    const place = step(pointer, 'uri')
    const wrong = checkUri(uri, type === 'remote' ? 'dst' : 'nbd')
    const there = placeOf(uri)
    const other = seen.get(there)
    if (wrong !== null) problems.push({ what: `found "${uri}": ${wrong}`, pointer: place })
    else if (other !== undefined)
      problems.push({ what: `${uri} is already the device ${other}`, pointer: place })
    else seen.set(there, path)
  }
}

/** The export that a URI leads to, with TLS or without. */
function placeOf(text: string): string {
  const uri = parseUri(text)
  return typeof uri === 'string' ? text : formatUri({ ...uri, tls: null })
}
