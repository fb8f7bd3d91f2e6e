import { readdirSync, readFileSync } from 'node:fs'

/** The processes below this one, its children first; none where the system has no `/proc`. */
function descendants(): number[] {
  const children = new Map<number, number[]>()
  for (const pid of processes()) {
    const parent = parentOf(pid)
    if (parent !== null) children.set(parent, [...(children.get(parent) ?? []), pid])
  }
  const found = [process.pid]
  for (const pid of found) found.push(...(children.get(pid) ?? []))
  return found.slice(1)
}

function processes(): number[] {
  try {
    return readdirSync('/proc').map(Number).filter(Number.isInteger)
  } catch {
    return []
  }
}

/** Null for a process that is over, also one that is only not yet waited for. */
function parentOf(pid: number): number | null {
  try {
    // The name in parentheses may have anything in it.
    const [, state, parent] = /.*\) (\S) (\d+) /s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))!
    return state === 'Z' ? null : Number(parent)
  } catch {
    return null
  }
}

/** Kills everything that this process started and what that started, itself not. */
export function killDescendants(): void {
  // A parent that was stopped first starts no more: once is enough.
  const pids = descendants()
  for (const signal of ['SIGSTOP', 'SIGKILL'] as const)
    for (const pid of signal === 'SIGKILL' ? new Set([...pids, ...descendants()]) : pids)
      try {
        process.kill(pid, signal)
      } catch {
        continue
      }
}
