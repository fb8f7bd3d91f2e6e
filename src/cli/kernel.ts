import { execFile } from 'node:child_process'
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { basename, delimiter, join } from 'node:path'
import { StorageError } from '../base/errors.ts'
import { isObject } from '../target/tree.ts'
import { UsageError } from './exit.ts'

/** The program that hands connections to the kernel. */
export const nbdClient = 'nbd-client'

/** Where bridges of attached devices leave what `detach` needs. */
const runDirectory = '/run/dst'

/** A bridge that serves an attached device. */
export interface Bridge {
  readonly socket: string
  readonly log: string
  /** 0 when there is none. */
  readonly pid: number
}

/** Throws a StorageError that names everything that is missing here, and how to get it. */
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
  }
  if (missing.length > 0)
    throw new StorageError('UNSUPPORTED', missing.map((each) => `missing ${each}`).join('\n'))
}

/** Whether the kernel uses the device now. */
export function isAttached(device: string): boolean {
  return existsSync(`/sys/block/${basename(device)}/pid`)
}

/** Runs a program; rejects with a StorageError that has its last words. */
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

export function rememberBridge(device: string, bridge: Bridge): void {
  writeFileSync(recordOf(device), JSON.stringify(bridge), { mode: 0o600 })
}

/** The bridge that was remembered for a device, and is not any more. Places to use, without one. */
export function forgetBridge(device: string): Bridge {
  mkdirSync(runDirectory, { recursive: true, mode: 0o700 })
  const name = join(runDirectory, basename(device))
  const none: Bridge = { socket: `${name}.sock`, log: `${name}.log`, pid: 0 }
  const record = recordOf(device)
  if (!existsSync(record)) return none
  const found: unknown = JSON.parse(readFileSync(record, 'utf8'))
  rmSync(record)
  const pid = isObject(found) && typeof found['pid'] === 'number' ? found['pid'] : 0
  return isBridge(pid, none.socket) ? { ...none, pid } : none
}

function recordOf(device: string): string {
  return join(runDirectory, `${basename(device)}.json`)
}

/** Whether the process is still the one that serves the socket: numbers are used again. */
function isBridge(pid: number, socket: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(`unix:${socket}`)
  } catch {
    return false
  }
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
