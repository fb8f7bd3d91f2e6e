import { readFileSync } from 'node:fs'

/**
 * Descriptors that clients leave to everything else: programs that are started, files of legs that
 * are added, records that are saved, remotes that come back.
 */
const keptShare = 0.1
const keptMin = 16
const keptMax = 512

/** File descriptors of this process: how many it may have, and how many of them are kept back. */
export interface Descriptors {
  readonly limit: number
  readonly kept: number
}

/** The limit of open files that is in force; null where the system does not say. */
export function openDescriptors(): Descriptors | null {
  try {
    const line = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))
    return line === null ? null : descriptorsOf(Number(line[1]))
  } catch {
    return null
  }
}

export function descriptorsOf(limit: number): Descriptors {
  const share = Math.floor(limit * keptShare)
  const kept = Math.min(keptMax, Math.max(keptMin, share), Math.floor(limit / 2))
  return { limit, kept }
}

/**
 * Whether one that was just opened is beyond those that clients may have. The system gives out the
 * lowest number that is free, so all below it are in use.
 */
export function isKeptBack({ limit, kept }: Descriptors, descriptor: number): boolean {
  return descriptor >= limit - kept
}
