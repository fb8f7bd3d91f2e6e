import { execFile } from 'node:child_process'
import { accessSync, constants, existsSync } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { basename, delimiter, join } from 'node:path'
import { StorageError, systemError } from '../base/errors.ts'
import { lockForWriting } from '../devices/file/lock.ts'
import { within } from './background.ts'
import { UsageError } from './exit.ts'

/** The program that hands connections to the kernel. */
export const nbdClient = 'nbd-client'

/** Milliseconds for the kernel to let go of a device that it was told to detach. */
const detachTimeoutMs = 10_000

/** Throws a StorageError that names all that this machine lacks, and how to get it. */
export function needKernelClient(device: string): void {
  if (!/^\/dev\/nbd\d+$/.test(device))
    throw new UsageError(`"${device}" is no device of the kernel's NBD client, such as /dev/nbd0`)
  const missing: string[] = []
  if (process.platform !== 'linux') missing.push('Linux: only its kernel has an NBD client')
  else {
    if (process.getuid?.() !== 0) missing.push('root: run it with sudo')
    if (!existsSync('/sys/module/nbd'))
      missing.push('the kernel module nbd: "modprobe nbd" loads it, if this kernel has it')
    else if (!existsSync(device))
      missing.push(`${device}: "modprobe nbd nbds_max=16" makes more devices`)
    if (findProgram(nbdClient) === null)
      missing.push('the program nbd-client: "apt-get install nbd-client" installs it')
    if (findProgram('flock') === null)
      missing.push('the program flock: "apt-get install util-linux" installs it')
  }
  if (missing.length > 0)
    throw new StorageError('UNSUPPORTED', missing.map((each) => `missing ${each}`).join('\n'))
}

/** True while the kernel uses the device. */
export function isAttached(device: string): boolean {
  return existsSync(`/sys/block/${basename(device)}/pid`)
}

/**
 * Keeps other attach and detach commands from the device until the handle is closed or this process
 * ends. Rejects with CLAIMED when another one runs.
 */
export async function claimDevice(device: string): Promise<FileHandle> {
  // Not the device itself: the kernel does not attach a device that is open.
  const handle = await open(`/sys/block/${basename(device)}`, 'r')
  try {
    await lockForWriting(handle.fd, device, '')
    return handle
  } catch (error) {
    await handle.close()
    if (!(error instanceof StorageError) || error.code !== 'CLAIMED') throw error
    throw new StorageError('CLAIMED', `${device} is being attached or detached by another command`)
  }
}

/**
 * Flushes the device. Rejects with CLAIMED when it is in use, such as by a mounted file system,
 * which would lose what it has not written yet.
 */
export async function flushDevice(device: string): Promise<void> {
  let handle: FileHandle | null = null
  try {
    // Exclusive: fails for mounts and other drivers, but not for programs that merely read.
    handle = await open(device, constants.O_RDONLY | constants.O_EXCL)
    await handle.sync()
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EBUSY')
      throw new StorageError('CLAIMED', `${device} is in use: unmount it first`)
    throw systemError(cause, `flushing ${device}`, '')
  } finally {
    await handle?.close()
  }
}

/** Resolves when the kernel has let go of the device; rejects after `detachTimeoutMs`. */
export async function detached(device: string): Promise<void> {
  if (await within(detachTimeoutMs, () => !isAttached(device))) return
  throw new StorageError('IO', `the kernel still uses ${device} after ${detachTimeoutMs} ms`)
}

/** Runs a program. Rejects with a StorageError that has the last line of its output. */
export function runProgram(name: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile(findProgram(name) ?? name, args, (error, stdout, stderr) => {
      if (error === null) resolve()
      else {
        const said = `${stdout}${stderr}`.trim().split('\n').at(-1) ?? ''
        reject(new StorageError('IO', `${name}: ${said === '' ? error.message : said}`))
      }
    })
  })
}

function findProgram(name: string): string | null {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']
  for (const folder of folders) {
    const path = join(folder, name)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      continue
    }
  }
  return null
}
