import { existsSync, realpathSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { isObject } from '../base/guards.ts'
import { parseSecretSource } from '../base/secret.ts'
import { ownerOnly } from '../net/access.ts'
import { parseAddress } from '../net/address.ts'
import { parseUri, pathsOf } from '../net/uri.ts'
import type * as config from '../config/config.types.ts'
import { managementsOf } from '../config/management.ts'
import { accessOf } from '../config/quantities.ts'
import type { Loose } from '../config/tree.ts'

/**
 * Decides which files commands such as `leg add` may let the target open or make. Without a limit
 * another user who can give commands could write whatever the target's user can. Where only that
 * user can connect, every file is allowed unless the configuration names folders; where others can,
 * by TCP or by the mode of the socket, only files beside those of the configuration.
 */
export class FileRights {
  /** Folders, without links in their paths; null allows all. */
  private readonly folders: readonly string[] | null
  /** The audit log, which no device may be; '' without one. */
  private readonly auditLog: string

  constructor(config: config.Config) {
    const allowed = config.files?.allow ?? (isPrivate(config) ? null : foldersOf(config))
    this.folders = allowed === null ? null : [...new Set(allowed.map(real))]
    this.auditLog = config.audit === undefined ? '' : real(config.audit.path)
  }

  /** Says which file of a device a command may not use, and why; null when it may use all. */
  refusal(device: unknown): string | null {
    const [program] = programsOf(device)
    if (this.folders !== null && program !== undefined)
      return `commands may not have the target run ${program}: give the key as a file`
    for (const path of [...filesOf(device), ...otherPlacesOf(device)]) {
      const { folders } = this
      if (real(path) === this.auditLog) return `${path} is the audit log`
      if (folders === null || folders.some((folder) => contains(folder, real(path)))) continue
      const list = folders.length === 0 ? 'none' : folders.join(', ')
      return (
        `commands may not use ${path}: "files": {"allow": [...]} in the configuration names the ` +
        `folders where they may; now ${list}`
      )
    }
    return null
  }
}

/** True if only the user of the target can give commands. */
function isPrivate(config: config.Config): boolean {
  return managementsOf(config).every((management) => {
    if (parseAddress(management.address)?.kind === 'tcp') return false
    const { mode, owner, group } = accessOf(management)
    return mode === ownerOnly.mode && owner === null && group === null
  })
}

/** The folders of the configured files, except `/dev`: the disks there belong to others. */
function foldersOf({ devices }: config.Config): string[] {
  const folders = Object.values(devices).flatMap(filesOf).map(dirname)
  return folders.filter((folder) => folder !== '/dev' && !folder.startsWith('/dev/'))
}

/** Paths of all files that a device, or a part of it, is made of. */
function filesOf(device: unknown): readonly string[] {
  return placesIn(device, ({ path }) => (typeof path === 'string' ? [path] : []))
}

/**
 * Other paths that a device leads to: sockets, for the service behind one may trust the target's
 * user; files of keys, and certificates, which could be shown to a stranger's server; and files
 * whose existence a fault layer checks.
 */
function otherPlacesOf(device: unknown): readonly string[] {
  return placesIn(device, (one) => [...keyFile(one), ...testedFile(one), ...pathsOfUri(one)])
}

/** The file of a key: its bytes are no secret of who may only give commands. */
function keyFile({ key }: Loose): readonly string[] {
  const source = typeof key === 'string' ? parseSecretSource(key) : ''
  return typeof source !== 'string' && source.kind === 'file' ? [source.path] : []
}

function testedFile({ whileFileExists: path }: Loose): readonly string[] {
  return typeof path === 'string' ? [path] : []
}

function pathsOfUri({ uri }: Loose): readonly string[] {
  const parsed = typeof uri === 'string' ? parseUri(uri) : ''
  return typeof parsed === 'string' ? [] : pathsOf(parsed)
}

/** The programs that a device has the target run, for a key. */
function programsOf(device: unknown): readonly string[] {
  return placesIn(device, ({ key }) => {
    const source = typeof key === 'string' ? parseSecretSource(key) : ''
    return typeof source !== 'string' && source.kind === 'command' ? [source.words[0]!] : []
  })
}

/**
 * The places of every object in a device, at any depth. The device may not have been checked yet,
 * and must not hide a file under a key that its type does not know.
 */
function placesIn(
  device: unknown,
  placesOf: (device: Loose) => readonly string[],
): readonly string[] {
  const places: string[] = []
  const left = [device]
  while (left.length > 0) {
    const next = left.pop()
    if (typeof next !== 'object' || next === null) continue
    if (isObject(next)) places.push(...placesOf(next))
    for (const value of Object.values(next)) left.push(value)
  }
  return places
}

/**
 * The path without links, also of a file that is not there yet. A path may have thousands of steps,
 * and each look goes through all of them, so find the existing part by halving.
 */
function real(path: string): string {
  const steps = resolve(path).split(sep).slice(1)
  const upTo = (count: number): string => sep + steps.slice(0, count).join(sep)
  let there = 0
  for (let missing = steps.length + 1; missing - there > 1;) {
    const middle = Math.floor((there + missing) / 2)
    if (existsSync(upTo(middle))) there = middle
    else missing = middle
  }
  try {
    return join(realpathSync.native(upTo(there)), ...steps.slice(there))
  } catch {
    // A path that cannot be resolved is in no allowed folder.
    return sep
  }
}

function contains(folder: string, path: string): boolean {
  const way = relative(folder, path)
  return way !== '' && way !== '..' && !way.startsWith(`..${sep}`)
}
