import { readFileSync } from 'node:fs'

/**
 * The share of descriptors that is kept from clients, for everything else: programs that are
 * started, files of legs that are added, records that are saved, remotes that come back.
 */
const keptShare = 0.1
const keptMin = 16
const keptMax = 512

/** File descriptors of this process: how many it may have, and how many of them are kept back. */
export interface Descriptors {
  readonly limit: number
  readonly kept: number
}

/** Asks the system for the limit of open files in force; null where it does not say. */
export function openDescriptors(): Descriptors | null {
  try {
    const line = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))
    return line === null ? null : descriptorsOf(Number(line[1]))
  } catch {
    return null
  }
}

/** Splits a limit of open files: a tenth is kept back, 16 to 512 of them, and half at most. */
export function descriptorsOf(limit: number): Descriptors {
  const share = Math.floor(limit * keptShare)
  const kept = Math.min(keptMax, Math.max(keptMin, share), Math.floor(limit / 2))
  return { limit, kept }
}

/**
 * True when a descriptor that was just opened is one of those kept from clients. The system gives
 * out the lowest free number, so all below it are in use.
 */
export function isKeptBack({ limit, kept }: Descriptors, descriptor: number): boolean {
  return descriptor >= limit - kept
}
