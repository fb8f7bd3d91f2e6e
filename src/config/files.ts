import { accessSync, constants, existsSync, realpathSync, statSync, type Stats } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { isObject } from '../base/guards.ts'
import { describeSize } from '../base/size.ts'
import { diskInUse, isProtected } from './disks.ts'
import { sizeOf } from './quantities.ts'
import { step, type Problem } from './source.ts'
import type { Node } from './tree.ts'

/** The problems of a configuration's files. */
export interface FileProblems {
  /** Problems that no state of the disks makes right: one file is two devices. */
  readonly mistakes: readonly Problem[]
  /** Problems that may pass: a file is not there, or not usable. */
  readonly conditions: readonly Problem[]
}

/** A file of the configuration: its path, its device, and the pointer of `path` there. */
interface ConfiguredFile {
  readonly file: string
  readonly device: Node['device']
  readonly pointer: string
}

/** Checks, without opening a file, that each is there, usable and used once. */
export function checkFiles(nodes: readonly Node[]): FileProblems {
  const mistakes: Problem[] = []
  const problems: Problem[] = []
  const seen = new Map<string, { path: string; readOnly: boolean }>()
  for (const { device, pointer, path } of nodes) {
    if (device['type'] !== 'file' || typeof device['path'] !== 'string') continue
    const file = device['path']
    const place = step(pointer, 'path')
    const readOnly = device['readOnly'] === true
    const stats = examine(file, place, problems)
    if (stats === null) continue
    const what = stats === undefined ? whyNotMade(file, device) : whyNotUsed(file, device, stats)
    if (what !== null) problems.push({ what, pointer: place })
    if (stats?.isFile() === true) checkSize({ file, device, pointer: place }, stats.size, problems)
    const key = identity(file, stats)
    const other = seen.get(key)
    if (other !== undefined && !(readOnly && other.readOnly))
      mistakes.push({ what: `${file} is already the device ${other.path}`, pointer: place })
    else seen.set(key, { path, readOnly })
  }
  return { mistakes, conditions: problems }
}

/** Checks that the audit log is not the file of a device, which its lines would damage. */
export function checkAudit(audit: unknown, nodes: readonly Node[], problems: Problem[]): void {
  const path = isObject(audit) ? audit['path'] : undefined
  if (typeof path !== 'string') return
  const own = identity(path, statsOf(path))
  for (const { device, path: name } of nodes) {
    const { type, path: file } = device
    if (type !== 'file' || typeof file !== 'string' || identity(file, statsOf(file)) !== own)
      continue
    problems.push({ what: `${path} is the device ${name}`, pointer: '/audit/path' })
  }
}

function statsOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false })
  } catch {
    return undefined
  }
}

/** Returns undefined when the file is not there, null after reporting that it is unreadable. */
function examine(file: string, pointer: string, problems: Problem[]): Stats | undefined | null {
  try {
    return statSync(file, { throwIfNoEntry: false })
  } catch (error) {
    problems.push({ what: `cannot be examined: ${(error as Error).message}`, pointer })
    return null
  }
}

/** Why a file that is not there cannot be made; null when it can. */
function whyNotMade(file: string, device: Node['device']): string | null {
  const absent = `${file} is not there`
  if (device['create'] !== true) return `${absent}; "create": true would make it`
  if (device['readOnly'] === true) return `${absent}, and "readOnly" does not make it`
  if (device['size'] === undefined) return `${absent}, and to make it a "size" is needed`
  let above = dirname(file)
  while (!existsSync(above)) above = dirname(above)
  const refusal = accessError(above, constants.W_OK)
  if (refusal === null) return null
  const why = refusal === 'EROFS' ? 'the file system is read-only' : `no permission in ${above}`
  return `${file} cannot be made: ${why}`
}

/** The errno with which the system refuses access; null when it does not. */
function accessError(path: string, mode: number): string | null {
  try {
    accessSync(path, mode)
    return null
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? ''
  }
}

/** Why a file that is there cannot be used; null when it can. */
function whyNotUsed(file: string, device: Node['device'], stats: Stats): string | null {
  const readOnly = device['readOnly'] === true
  const isDisk = stats.isBlockDevice()
  if (!stats.isFile() && !isDisk)
    return `${file} is ${stats.isDirectory() ? 'a directory' : 'neither a file nor a block device'}`
  const use = isDisk && !readOnly ? diskInUse(BigInt(stats.rdev)) : null
  if (use !== null) return `${file} is ${use}: unmount or free it, or set "readOnly": true`
  // A disk that is write-protected is served for reading.
  const reads = readOnly || (isDisk && isProtected(BigInt(stats.rdev)))
  const refusal = accessError(file, reads ? constants.R_OK : constants.R_OK | constants.W_OK)
  if (refusal === null) return null
  return reads ? `${file} cannot be opened: no permission to read` : unwritable(file, refusal)
}

/** Says why a file cannot be opened for writing, and whether it could be served for reading. */
function unwritable(file: string, errno: string): string {
  const doing = `${file} cannot be opened`
  const hint = '; "readOnly": true serves it for reading'
  const readable = accessError(file, constants.R_OK) === null
  if (errno === 'EROFS') return `${doing} for writing: its file system is read-only${hint}`
  return `${doing}: no permission to write${readable ? hint : ''}`
}

/** Bytes that direct access reads and writes at least, on every disk. */
const sectorBytes = 512

/** Checks a file that has `found` bytes. */
function checkSize(
  { file, device, pointer }: ConfiguredFile,
  found: number,
  problems: Problem[],
): void {
  const { size, direct, readOnly, grow } = device
  const wanted = size === undefined ? found : sizeOf(size)
  if (wanted === null) return
  if (wanted === 0) problems.push({ what: `${file} is empty`, pointer })
  else if (direct === true && wanted % sectorBytes !== 0)
    problems.push({
      what: `${file}: ${wanted} bytes are no multiple of ${sectorBytes}, which "direct" needs`,
      pointer,
    })
  const grows = wanted > found && grow === true && readOnly !== true
  if (wanted === found || grows) return
  const hint = wanted > found && readOnly !== true ? '; "grow": true would enlarge it' : ''
  problems.push({
    what: `${file} has ${found} bytes (${describeSize(found)}), not ${wanted}${hint}`,
    pointer: pointer.replace(/path$/, 'size'),
  })
}

/** Equal texts for two paths to one file: links are followed, and disks are known by number. */
function identity(file: string, stats: Stats | undefined): string {
  if (stats?.isBlockDevice() === true) return `block ${stats.rdev}`
  if (stats !== undefined) return `inode ${stats.dev}:${stats.ino}`
  try {
    return join(realpathSync(dirname(file)), basename(file))
  } catch {
    return file
  }
}
