import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { sysfsOf } from '../base/sysfs.ts'

/**
 * Says what keeps a disk from being opened for writing; null when nothing is found. Opens nothing,
 * so a program that has the disk exclusively is noticed by `serve` alone.
 */
export function diskInUse(number: bigint): string | null {
  const sysfs = sysfsOf(number)
  const mounts = mountedAt()
  for (const disk of [sysfs, ...partitionsOf(sysfs)]) {
    const place = mounts.get(textOf(join(disk, 'dev')))
    if (place !== undefined) return `mounted at ${place}`
    const [holder] = namesIn(join(disk, 'holders'))
    if (holder !== undefined) return `part of /dev/${holder}`
  }
  return null
}

/** True if the kernel refuses writes to the disk. */
export function isProtected(number: bigint): boolean {
  return textOf(join(sysfsOf(number), 'ro')) === '1'
}

function partitionsOf(sysfs: string): readonly string[] {
  const below = namesIn(sysfs).map((name) => join(sysfs, name))
  return below.filter((path) => existsSync(join(path, 'partition')))
}

/** The first place where each disk is mounted, by `major:minor`. */
function mountedAt(): ReadonlyMap<string, string> {
  const places = new Map<string, string>()
  // Fields of proc(5): the third is the device's number, the fifth where it is mounted.
  for (const line of textOf('/proc/self/mountinfo').split('\n')) {
    const fields = line.split(' ')
    const [device, place] = [fields[2], fields[4]]
    if (device !== undefined && place !== undefined && !places.has(device))
      places.set(device, place.replace(/\\\d{3}/g, character))
  }
  return places
}

/** The character of an octal code behind a backslash. */
function character(escaped: string): string {
  return String.fromCharCode(parseInt(escaped.slice(1), 8))
}

function namesIn(path: string): readonly string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return ''
  }
}
