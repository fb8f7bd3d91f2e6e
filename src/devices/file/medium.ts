import { constants } from 'node:fs'
import fs, { type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Clock } from '../../base/clock.ts'
import { StorageError, systemError } from '../../base/errors.ts'
import { makeFolder, syncFolder } from '../../base/folders.ts'
import { describeSize } from '../../base/size.ts'
import type { Slab } from '../../base/slab.ts'
import {
  isWriteProtected,
  queueNumber,
  readNumber,
  readText,
  rotates,
  sysfsOf,
} from '../../base/sysfs.ts'
import { digest } from '../../device/facts.ts'
import { DiskGuard, diskInUse, isBusy } from './guard.ts'
import { lockForWriting } from './lock.ts'

/** How to open a file or disk. */
export interface FileOptions {
  readonly path: string
  /** Bytes that the file must have, or is created with. Absent: as many as it has. */
  readonly size?: number
  /** Creates a file that is not there, sparse, and the folders above it. Needs `size`. */
  readonly create?: boolean
  /** Resolves to why `create` does not hold for now; null when the file may be created. */
  readonly mayNotCreate?: () => Promise<string | null>
  /** Enlarges a file that is smaller than `size`. */
  readonly grow?: boolean
  /** Bytes that a command let the file grow to: it may have up to so many, above `size`. */
  readonly grownTo?: () => Promise<number>
  /** Bypasses the page cache. */
  readonly direct?: boolean
  readonly readOnly?: boolean
  /**
   * Milliseconds before opening is tried again after a failure, doubled up to ten times that;
   * `open` resolves after the first try. Absent: `open` rejects.
   */
  readonly retryMs?: number
  /** Guards a disk once a parent claims it, not from the start: the leg may be detached. */
  readonly guardWhenClaimed?: boolean
}

/** The options, and the answer of `grownTo`. */
interface SizedOptions extends FileOptions {
  readonly sizeMax?: number
}

/** An open file or disk with its properties. */
export interface Medium {
  readonly handle: FileHandle
  /** A second handle whose writes return when they are on stable storage; null if read-only. */
  readonly synced: FileHandle | null
  /** Guards a disk that is open for writing; null otherwise. */
  readonly guard: DiskGuard | null
  readonly regular: boolean
  /** Bytes. */
  readonly size: number
  /** Offsets, lengths and buffers are multiples of this; 1 unless `direct`. */
  readonly blockSize: number
  readonly preferredBlockSize: number
  readonly rotational: boolean
  readonly identity: string
  readonly bootId: string
  /** The disk refuses writes, so it is open for reading, also without `readOnly`. */
  readonly writeProtected: boolean
  /** True if this opening created the file. */
  readonly made: boolean
  /** The sysfs folder of the disk, or of the disk below a file: `/sys/dev/block/8:1`. */
  readonly sysfs: string
}

/**
 * Opens, creates, grows and locks as the options say. The caller closes the medium. Rejects with a
 * StorageError, and then leaves no file open or made.
 */
export async function openMedium(
  options: SizedOptions,
  device: string,
  { slab, clock }: { readonly slab: Slab; readonly clock: Clock },
): Promise<Medium> {
  const handles: FileHandle[] = []
  let made = false
  try {
    const writeProtected = options.readOnly !== true && (await isProtectedDisk(options.path))
    const readOnly = options.readOnly === true || writeProtected
    const opened = await openOrCreate({ ...options, readOnly }, device)
    const { handle } = opened
    handles.push(handle)
    made = opened.made
    if (!readOnly) await lockForWriting(handle.fd, options.path, device)
    const medium = { ...(await examine(handle, options, slab, device)), writeProtected, made }
    if (readOnly) return medium
    const guard = medium.regular ? null : new DiskGuard(handle.fd, options.path, device, clock)
    if (options.guardWhenClaimed !== true) await guard?.take()
    // Open it by its number: the path may mean another file by now.
    const flags = constants.O_WRONLY | constants.O_DSYNC | directFlag(options)
    const synced = await fs
      .open(`/proc/self/fd/${handle.fd}`, flags)
      .catch(async (cause: unknown) => {
        await guard?.close()
        throw cause
      })
    return { ...medium, synced, guard }
  } catch (cause) {
    for (const handle of handles) await handle.close()
    if (made) await fs.unlink(options.path)
    throw systemError(cause, `opening ${options.path}`, device)
  }
}

function directFlag(options: FileOptions): number {
  return options.direct === true ? constants.O_DIRECT : 0
}

async function isProtectedDisk(path: string): Promise<boolean> {
  const stat = await fs.stat(path, { bigint: true }).catch(() => null)
  return stat?.isBlockDevice() === true && isWriteProtected(sysfsOf(stat.rdev))
}

/** Resolves to the open file; `made` if it was created. */
async function openOrCreate(
  options: FileOptions,
  device: string,
): Promise<Pick<Medium, 'handle' | 'made'>> {
  const { path, readOnly } = options
  const access = readOnly === true ? constants.O_RDONLY : constants.O_RDWR
  const flags = access | directFlag(options)
  try {
    return { handle: await fs.open(path, flags), made: false }
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'EINVAL' && options.direct === true)
      throw config(`${path}: its file system has no direct access`, device, cause)
    if (code === 'EISDIR') throw config(`${path} is a directory`, device, cause)
    if (isBusy(cause)) throw diskInUse(path, device, cause)
    if (code === 'EROFS')
      throw config(`${path}: its file system is read-only; "readOnly" serves it so`, device, cause)
    if (code !== 'ENOENT') throw cause
    if (options.create !== true || options.size === undefined || readOnly === true)
      throw config(`${path} is not there`, device, cause)
    const why = (await options.mayNotCreate?.()) ?? null
    if (why !== null) throw config(`${path} is not there, and not made: ${why}`, device)
  }
  await makeFolder(dirname(path))
  const handle = await fs.open(path, flags | constants.O_CREAT | constants.O_EXCL, 0o600)
  try {
    await handle.truncate(options.size)
    await handle.sync()
    await syncFolder(dirname(path))
    return { handle, made: true }
  } catch (cause) {
    await handle.close()
    await fs.unlink(path)
    throw cause
  }
}

async function examine(
  handle: FileHandle,
  options: SizedOptions,
  slab: Slab,
  device: string,
): Promise<Medium> {
  const { path, direct } = options
  const stat = await handle.stat({ bigint: true })
  const regular = stat.isFile()
  if (!regular && !stat.isBlockDevice())
    throw config(`${path} is neither a regular file nor a block device`, device)
  const number = regular ? stat.dev : stat.rdev
  const sysfs = sysfsOf(number)
  const found = regular ? Number(stat.size) : await diskBytes(sysfs, path)
  const size = await agreeOnSize(handle, options, { found, regular }, device)
  const blockSize = direct === true ? await directBlockSize(handle, sysfs, slab) : 1
  if (blockSize === 0) throw config(`${path}: its file system has no direct access`, device)
  if (size % blockSize !== 0)
    throw config(`${path}: ${size} bytes are no multiple of its blocks of ${blockSize}`, device)
  const preferred = Number(stat.blksize)
  const sane = preferred >= 4096 && preferred <= 65_536 && Number.isInteger(Math.log2(preferred))
  const bootId = bootIdOf(await readText('/proc/sys/kernel/random/boot_id'))
  const own = regular ? `${stat.ino}:${stat.birthtimeNs}` : `disk:${number}`
  return {
    handle,
    synced: null,
    guard: null,
    regular,
    size,
    blockSize,
    preferredBlockSize: Math.max(blockSize, sane ? preferred : 4096),
    rotational: await rotates(sysfs),
    identity: await identify(own, sysfs, bootId),
    bootId,
    sysfs,
    writeProtected: false,
    made: false,
  }
}

/** Resolves to the bytes that the file or disk has now. */
export async function sizeNow(
  { handle, regular, sysfs }: Pick<Medium, 'handle' | 'regular' | 'sysfs'>,
  path = '',
): Promise<number> {
  return regular ? (await handle.stat()).size : diskBytes(sysfs, path)
}

/** Resolves to the bytes of a disk. Rejects if the kernel does not say: unknown is not empty. */
async function diskBytes(sysfs: string, path: string): Promise<number> {
  const sectors = await readNumber(`${sysfs}/size`, -1)
  if (sectors >= 0) return 512 * sectors
  throw new StorageError('IO', `${path}: the kernel does not say how large the disk is (${sysfs})`)
}

/**
 * Resolves to the size to serve. Grows a file of `found` bytes if the options say so, and never
 * cuts one. Rejects with CONFIG if the size is not the configured one.
 */
async function agreeOnSize(
  handle: FileHandle,
  options: SizedOptions,
  { found, regular }: { readonly found: number; readonly regular: boolean },
  device: string,
): Promise<number> {
  const { path, sizeMax = 0, size: configured = found } = options
  // The command may have failed before the file reached `sizeMax`.
  const size = Math.max(configured, Math.min(found, sizeMax))
  if (found < size && regular && options.grow === true) {
    // Not flushed: that would swallow a failure of an earlier process, which is reported once.
    await handle.truncate(size)
  } else if (found !== size) {
    const hint = found < size && regular ? '; "grow" enlarges it' : ''
    const sizes = `${describeSize(found)} (${found} bytes), not ${describeSize(size)} (${size})`
    throw config(`${path} has ${sizes}${hint}`, device)
  }
  if (size === 0) throw config(`${path} is empty`, device)
  // Offsets at its end would not be exact.
  if (!Number.isSafeInteger(size)) {
    const most = `a device has at most ${Number.MAX_SAFE_INTEGER}`
    throw config(`${path} has ${describeSize(size)} (about ${size} bytes): ${most}`, device)
  }
  return size
}

/** Finds the alignment that direct access needs by trying, in bytes; 0 when none works. */
async function directBlockSize(handle: FileHandle, sysfs: string, slab: Slab): Promise<number> {
  const least = await queueNumber(sysfs, 'logical_block_size', 512)
  const block = slab.take(4096)
  try {
    for (let size = least; size <= 4096; size *= 2) {
      const read = await handle.read(block.bytes, 0, size, 0).catch(() => null)
      if (read !== null) return size
    }
    return 0
  } finally {
    block.release()
  }
}

/** Stands for an unknown fact, and differs in each process, so that the fact counts as changed. */
const unknown = `unknown to process ${process.pid} since ${performance.timeOrigin}`

/** Makes a boot id of the kernel's; without one, another for each process. */
export function bootIdOf(text: string): string {
  return digest(text === '' ? unknown : text)
}

/**
 * Resolves to the identity of a file or disk. A file is known by its inode and birth on this
 * machine: device numbers change with a restart. A disk is known by the name that its maker or
 * driver gave it. A disk without a name gets a new identity when the machine restarts, because
 * another disk may have its number then, and when it is plugged in again, because the kernel counts
 * the disks that it has seen. Where the kernel does not, each process gives it another identity.
 */
export async function identify(own: string, sysfs: string, bootId: string): Promise<string> {
  const machine = await readText('/etc/machine-id')
  if (!own.startsWith('disk:')) {
    // An inode number alone, on an unknown machine, may belong to another file next time.
    const anybodys = machine === '' && own.endsWith(':0')
    return digest(anybodys ? `${unknown}:${own}` : `${machine}:${own}`)
  }
  const partition = await readText(`${sysfs}/partition`)
  const disk = partition === '' ? sysfs : `${sysfs}/..`
  for (const name of ['wwid', 'device/wwid', 'dm/uuid', 'md/uuid', 'serial', 'device/serial']) {
    const found = await readText(`${disk}/${name}`)
    // An array without metadata has zeroes there.
    if (/[^0-]/.test(found)) return digest(`${found}:${partition}`)
  }
  const sequence = await readText(`${disk}/diskseq`)
  return digest(`${machine}:${bootId}:${sequence === '' ? unknown : sequence}:${own}`)
}

function config(message: string, device: string, cause?: unknown): StorageError {
  return new StorageError('CONFIG', message, device, cause)
}
