import { execFileSync } from 'node:child_process'
import { findProgram } from './process.ts'

/**
 * Does `work` with this process, and with all that it starts meanwhile, on one processor: neither
 * side then wakes the other across processors, which costs as much as the work itself, now more
 * and now less, by how the scheduler places the two. Where `taskset` is not installed, or refuses,
 * everything stays where it is, and `stayed` is called: such figures cannot be held against others.
 */
export async function onOneProcessor<T>(work: () => Promise<T>, stayed: () => void): Promise<T> {
  const program = findProgram('taskset')
  const before = program === null ? null : processors(program)
  if (program === null || before === null || !move(program, lastOf(before))) {
    stayed()
    return work()
  }
  try {
    return await work()
  } finally {
    move(program, before)
  }
}

/** Those that this process may use, as `taskset` writes them, such as `0-3,6`. */
export function processors(program: string): string | null {
  try {
    const said = execFileSync(program, ['-c', '-p', String(process.pid)], { encoding: 'utf8' })
    return /: ([\d,-]+)\s*$/.exec(said)?.[1] ?? null
  } catch {
    return null
  }
}

/** The last of a list: the first ones have more of the machine's interrupts. */
export function lastOf(list: string): string {
  return list.split(/[,-]/).at(-1)!
}

/** All threads, not only the first. */
function move(program: string, list: string): boolean {
  try {
    execFileSync(program, ['-a', '-c', '-p', list, String(process.pid)], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
