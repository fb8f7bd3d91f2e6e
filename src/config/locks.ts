import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { isObject } from '../base/guards.ts'
import { halvesOf } from '../base/sysfs.ts'
import type { Config } from './config.types.ts'

/** The part of a configuration that says what a target locks. */
type Locked = Pick<Config, 'devices' | 'state'>

/**
 * The files of a configuration, the state directory's lock among them, that a process has locked
 * for writing, mostly a running target. Read from the kernel's list of locks; empty where that
 * cannot be read or does not name the file system.
 */
export function lockedFiles(config: Locked): readonly string[] {
  let table: string
  try {
    table = readFileSync('/proc/locks', 'utf8')
  } catch {
    return []
  }
  const held = new Set(
    table
      .split('\n')
      .filter((line) => / FLOCK +ADVISORY +WRITE /.test(line))
      .map((line) => / ([0-9a-f]+:[0-9a-f]+:\d+) /.exec(line)?.[1]),
  )
  const { devices, state } = config
  return [...filesOf(devices), join(state.directory, 'lock')].filter((path) =>
    held.has(keyOf(path)),
  )
}

function filesOf(value: unknown): readonly string[] {
  if (Array.isArray(value)) return value.flatMap(filesOf)
  if (!isObject(value)) return []
  const { type, path, readOnly } = value
  if (type === 'file') return typeof path === 'string' && readOnly !== true ? [path] : []
  return Object.values(value).flatMap(filesOf)
}

/** The file as the kernel lists it: major and minor number in hexadecimal, and the inode. */
function keyOf(path: string): string {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
  if (stat === undefined) return ''
  const halves = halvesOf(stat.dev).map((half) => half.toString(16).padStart(2, '0'))
  return `${halves.join(':')}:${stat.ino}`
}
