import { readFileSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import { StorageError, systemError } from '../base/errors.ts'
import { isObject } from '../base/guards.ts'
import { parseSecretSource } from '../base/secret.ts'
import { formatUri, parseUri, pathsOf, withPaths } from '../net/uri.ts'
import type { Config } from './config.types.ts'
import { certificatePaths, checkCredentialFiles } from './credentials.ts'
import { checkTokenFiles, managementPlaces } from './management.ts'
import { checkAgainstSchema } from './schema.ts'
import { checkMeaning, type FilesAre } from './semantics.ts'
import { isTooDeep, parseSource, tooDeep, type Problem, type Source } from './source.ts'
import { childrenOf, entries, type Loose } from './tree.ts'

/** Problems that are reported: a person reads no more, and a hostile request can have very many. */
const problemsMax = 100

/** All problems of a configuration at once. */
export class ConfigError extends StorageError {
  readonly problems: readonly Problem[]
  /** One line for each problem: `what (where)`. */
  readonly lines: readonly string[]

  constructor(file: string, problems: readonly Problem[], source: Source | null) {
    const lines = linesOf(file, problems, source)
    super('CONFIG', lines.join('\n'))
    this.problems = problems
    this.lines = lines
  }
}

/** A configuration without problems. */
export interface Checked {
  /** The configuration with defaults filled in and every path absolute. */
  readonly config: Config
  /** The configuration as it was written, with defaults filled in. */
  readonly shown: unknown
  /** A line for each setting that does not hold as it is written. */
  readonly warnings: readonly string[]
}

/**
 * Reads and checks a configuration file. Throws a ConfigError. Opens and creates none of the
 * devices. To serve them, `files` are `awaited`: a file that is not there is then no problem.
 */
export function loadConfig(file: string, files: FilesAre = 'needed'): Checked {
  let source: Source
  try {
    source = parseSource(readFileSync(file, 'utf8'))
  } catch (error) {
    const { message } = systemError(error, 'cannot be read')
    throw new ConfigError(file, [{ what: message, pointer: '' }], null)
  }
  return checkIn({ file, directory: dirname(resolve(file)), source }, source.value, files)
}

/**
 * Checks a configuration, and fills in the defaults in place. Relative paths are relative to
 * `directory`. Throws a ConfigError with every problem.
 */
export function checkConfig(value: unknown, directory: string, file = 'configuration'): Checked {
  return checkIn({ file, directory, source: null }, value, 'needed')
}

/** The origin of a configuration. */
interface Origin {
  readonly file: string
  readonly directory: string
  readonly source: Source | null
}

function checkIn({ file, directory, source }: Origin, value: unknown, files: FilesAre): Checked {
  if (isTooDeep(value)) throw new ConfigError(file, [{ what: tooDeep, pointer: '' }], source)
  const problems = [...(source?.duplicates ?? []), ...checkAgainstSchema(value)]
  const warnings: string[] = []
  const resolved: unknown = structuredClone(value)
  if (isObject(resolved)) {
    resolvePaths(resolved, directory)
    const meaning = checkMeaning(resolved, files)
    problems.push(...meaning.problems)
    warnings.push(...linesOf(file, meaning.warnings, source))
  }
  // Files are looked for once their names are right.
  if (problems.length === 0 && files === 'needed')
    problems.push(
      ...checkCredentialFiles(resolved as Config),
      ...checkTokenFiles(resolved as Config),
    )
  if (problems.length > 0) throw new ConfigError(file, problems, source)
  return { config: resolved as Config, shown: value, warnings }
}

/** Makes a line of each problem: `what (where)`. */
function linesOf(file: string, problems: readonly Problem[], source: Source | null): string[] {
  const told = problems.slice(0, problemsMax)
  const lines = told.map(({ what, pointer }) => `${what} (${where(file, pointer, source)})`)
  if (problems.length > told.length)
    lines.push(`${problems.length - told.length} more problems (${basename(file)})`)
  return lines
}

/** Makes every path absolute, in place. */
function resolvePaths(config: Loose, directory: string): void {
  for (const { value, pointer } of entries(config['devices'], '/devices'))
    resolveDevice(value, pointer, directory)
  const { listeners, state, files, audit } = config
  const listening: unknown[] = Array.isArray(listeners) ? listeners : []
  const managed = managementPlaces(config).map(({ value }) => value)
  for (const place of managed) replace(place, 'tokens', (path) => resolve(directory, path))
  for (const listener of [...listening, ...managed])
    replace(listener, 'address', (address) =>
      address.startsWith('unix:') && address !== 'unix:'
        ? `unix:${resolve(directory, address.slice('unix:'.length))}`
        : address,
    )
  for (const { value } of entries(config['credentials'], '/credentials'))
    for (const name of [...certificatePaths, 'psk'])
      replace(value, name, (path) => resolve(directory, path))
  replace(audit, 'path', (path) => resolve(directory, path))
  replace(state, 'directory', (path) => resolve(directory, path))
  const allowed: unknown = isObject(files) ? files['allow'] : undefined
  if (Array.isArray(allowed))
    for (const at of allowed.keys()) replace(allowed, at, (path) => resolve(directory, path))
}

function resolveDevice(device: unknown, pointer: string, directory: string): void {
  if (!isObject(device)) return
  if (device['type'] === 'file') replace(device, 'path', (path) => resolve(directory, path))
  replace(device, 'key', (text) => {
    const source = parseSecretSource(text)
    const isFile = typeof source !== 'string' && source.kind === 'file'
    return isFile ? `file:${resolve(directory, source.path)}` : text
  })
  replace(device, 'whileFileExists', (path) => resolve(directory, path))
  replace(device, 'uri', (text) => {
    const uri = parseUri(text)
    if (typeof uri === 'string' || pathsOf(uri).length === 0) return text
    return formatUri(withPaths(uri, (path) => resolve(directory, path)))
  })
  for (const child of childrenOf(device, pointer))
    resolveDevice(child.value, child.pointer, directory)
}

/** Replaces a property if it is a text. */
function replace(object: unknown, key: string | number, by: (text: string) => string): void {
  if (typeof object !== 'object' || object === null) return
  const values = object as Record<string | number, unknown>
  const value = values[key]
  if (typeof value === 'string') values[key] = by(value)
}

/** Names the place of a problem: `/devices/disk/size, line 7, column 40 of config.json`. */
function where(file: string, pointer: string, source: Source | null): string {
  const name = basename(file)
  if (pointer === '') return name
  let near = pointer
  while (near !== '' && source?.places.has(near) === false) near = near.replace(/\/[^/]*$/, '')
  const place = source?.places.get(near)
  if (place === undefined) return `${pointer} in ${name}`
  return `${pointer}, line ${place.line}, column ${place.column} of ${name}`
}
