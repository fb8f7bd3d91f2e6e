import { readdirSync, readFileSync } from 'node:fs'

/** Linux counts a process's time in ticks of this many nanoseconds (USER_HZ is 100 everywhere). */
const tickNanoseconds = 10_000_000

/** What a process and everything it started have used so far. */
export interface Usage {
  /** Processor time in user and system mode, all threads, those that ended included. */
  readonly cpuNanoseconds: number
  /**
   * The same, exactly for threads that live and in ticks for children that have ended. A thread
   * that has ended before its process is missing.
   */
  readonly threadNanoseconds: number
  /** Largest resident memory of the process itself. */
  readonly peakBytes: number
}

/**
 * Reads /proc: proc(5), fields 14 to 17 of `stat`, in ticks, and each thread's `schedstat`, in
 * nanoseconds. Servers that fork per connection are seen because living descendants are added to
 * what the waited-for ones have left behind.
 */
export function usageOf(pid: number): Usage {
  let ticks = 0
  let waitedFor = 0
  let living = 0
  for (const one of descendants(pid)) {
    const fields = statFields(one)
    if (fields === null) continue
    for (let at = 11; at <= 12; at++) ticks += Number(fields[at])
    for (let at = 13; at <= 14; at++) waitedFor += Number(fields[at])
    for (const thread of tasksOf(one)) {
      const time = readIfThere(`/proc/${one}/task/${thread}/schedstat`)
      if (time !== null) living += Number(time.split(' ')[0])
    }
  }
  return {
    cpuNanoseconds: (ticks + waitedFor) * tickNanoseconds,
    threadNanoseconds: living + waitedFor * tickNanoseconds,
    peakBytes: peakBytes(pid),
  }
}

/** The fields after the command's name, which may hold anything: the first is the state. */
function statFields(pid: number): string[] | null {
  const text = readIfThere(`/proc/${pid}/stat`)
  return text === null ? null : text.slice(text.lastIndexOf(')') + 2).split(' ')
}

function peakBytes(pid: number): number {
  const found = /VmHWM:\s+(\d+) kB/.exec(readIfThere(`/proc/${pid}/status`) ?? '')
  return found === null ? 0 : Number(found[1]) * 1024
}

/** A process and all that it has started, and they. */
export function descendants(pid: number): number[] {
  const all = [pid]
  for (const parent of all)
    for (const task of tasksOf(parent)) {
      const children = readIfThere(`/proc/${parent}/task/${task}/children`) ?? ''
      for (const child of children.split(' ')) if (child !== '') all.push(Number(child))
    }
  return all
}

/** The threads of a process; none when it has ended. */
function tasksOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`)
  } catch {
    return []
  }
}

export function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}

/** Whether a process runs: not when it has ended and nobody has asked how. */
export function isAlive(pid: number): boolean {
  const state = pid === 0 ? undefined : statFields(pid)?.[0]
  return state !== undefined && state !== 'Z' && state !== 'X'
}

/** Other processes whose command line holds a text. */
export function processesNaming(text: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && pid !== process.pid)
    .filter((pid) => readIfThere(`/proc/${pid}/cmdline`)?.includes(text) === true)
}

/** Kills a process and all that it has started, and says who that is. */
export function killAll(pid: number): number[] {
  let all: number[] = []
  // Who was stopped first starts no more that would outlive it.
  for (const signal of ['SIGSTOP', 'SIGKILL'] as const) {
    all = pid === 0 ? [] : descendants(pid)
    for (const one of all)
      try {
        process.kill(one, signal)
      } catch {
        // It was faster.
      }
  }
  return all
}
