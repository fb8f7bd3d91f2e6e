import { execFileSync } from 'node:child_process'

/**
 * Does `work` with this process, and with all that it starts meanwhile, on one processor: neither
 * side then wakes the other across processors, which costs as much as the work itself, now more
 * and now less, by how the scheduler places the two. Where `taskset` is not installed, or refuses,
 * everything stays where it is, and `stayed` is called: such figures cannot be held against others.
 */
export async function onOneProcessor<T>(work: () => Promise<T>, stayed: () => void): Promise<T> {
  const before = processors()
  if (before === null || taskset('-a', '-c', '-p', lastOf(before)) === null) {
    stayed()
    return work()
  }
  try {
    return await work()
  } finally {
    taskset('-a', '-c', '-p', before)
  }
}

/** Those that this process may use, such as `0-3,6`; null where nobody can tell. */
export function processors(): string | null {
  return /: ([\d,-]+)\s*$/.exec(taskset('-c', '-p') ?? '')?.[1] ?? null
}

/** The last of a list: the first ones have more of the machine's interrupts. */
export function lastOf(list: string): string {
  return list.split(/[,-]/).at(-1)!
}

/** What it says of this process, null when it fails; `-a` is for all threads. */
function taskset(...words: readonly string[]): string | null {
  try {
    return execFileSync('taskset', [...words, String(process.pid)], {
      encoding: 'utf8',
      stdio: 'pipe',
    })
  } catch {
    return null
  }
}
