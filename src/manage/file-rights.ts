import { existsSync, realpathSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { isObject } from '../base/guards.ts'
import { ownerOnly } from '../net/access.ts'
import { parseAddress, parseUri } from '../net/address.ts'
import type * as config from '../config/config.types.ts'
import { accessOf } from '../config/quantities.ts'
import type { Loose } from '../config/tree.ts'

/**
 * Which files commands may have the target open or make, such as `leg add`. Who can give commands
 * would otherwise write whatever the user of the target can. Where only that user can connect,
 * everything is allowed that the configuration does not forbid; where others can, by TCP or by the
 * mode of the socket, only what lies beside the files of the configuration.
 */
export class FileRights {
  /** Folders, without links in their paths; null allows all. */
  private readonly folders: readonly string[] | null

  constructor(config: config.Config) {
    const allowed = config.files?.allow ?? (isPrivate(config) ? null : foldersOf(config))
    this.folders = allowed === null ? null : [...new Set(allowed.map(real))]
  }

  /** Why a command may not use the device, for a file of it; null when it may. */
  refusal(device: unknown): string | null {
    for (const path of [...filesOf(device), ...otherPlacesOf(device)]) {
      const { folders } = this
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

/** Whether nobody but the user of the target can give commands. */
function isPrivate({ management }: config.Config): boolean {
  if (management === undefined) return true
  if (parseAddress(management.address)?.kind === 'tcp') return false
  const { mode, owner, group } = accessOf(management)
  return mode === ownerOnly.mode && owner === null && group === null
}

/** What lies beside a disk of `/dev` are other people's disks. */
function foldersOf({ devices }: config.Config): string[] {
  const folders = Object.values(devices).flatMap(filesOf).map(dirname)
  return folders.filter((folder) => folder !== '/dev' && !folder.startsWith('/dev/'))
}

/** Paths of all files that a device, or a part of it, is made of. */
function filesOf(device: unknown): readonly string[] {
  return placesIn(device, ({ path }) => (typeof path === 'string' ? path : null))
}

/**
 * What else of the file system a device leads to: sockets, behind which others keep what only the
 * target's user may change, and files that tell by their being there.
 */
function otherPlacesOf(device: unknown): readonly string[] {
  return placesIn(device, ({ uri, whileFileExists }) => {
    if (typeof whileFileExists === 'string') return whileFileExists
    const parsed = typeof uri === 'string' ? parseUri(uri) : ''
    return typeof parsed !== 'string' && parsed.address.kind === 'unix' ? parsed.address.path : null
  })
}

/**
 * Of every object in a device, however deep: it may be no configuration yet, and a kind of device
 * that keeps its children under another key may not hide a file.
 */
function placesIn(device: unknown, placeOf: (device: Loose) => string | null): readonly string[] {
  const places: string[] = []
  const left = [device]
  while (left.length > 0) {
    const next = left.pop()
    if (typeof next !== 'object' || next === null) continue
    const place = isObject(next) ? placeOf(next) : null
    if (place !== null) places.push(place)
    for (const value of Object.values(next)) left.push(value)
  }
  return places
}

/**
 * The path without links, also of what is not there yet. It may have thousands of steps: each look
 * goes through all of them, so there are few.
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
    // What is there and has no name is in no folder.
    return sep
  }
}

function contains(folder: string, path: string): boolean {
  const way = relative(folder, path)
  return way !== '' && way !== '..' && !way.startsWith(`..${sep}`)
}
