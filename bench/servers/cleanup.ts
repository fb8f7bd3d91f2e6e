import { rmSync } from 'node:fs'
import { isAlive, killAll, processesNaming } from './proc.ts'

/**
 * Processes and folders that shall not outlive this run: taken away when it ends, also by an error
 * that nobody caught, and by an interrupt.
 */
const pids = new Set<number>()
const folders = new Set<string>()

/** What nobody ever wakes: there is no other way to wait while a process ends. */
const still = new Int32Array(new SharedArrayBuffer(4))
/** Milliseconds between two looks at processes that end. */
const lookInterval = 5

/** Exit codes of programs that a signal ended, by convention. */
const interrupts = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const

/** A process that may be running from now on. */
export function trackProcess(pid: number): void {
  pids.add(pid)
}

/** It has ended: its number may soon be another's. */
export function forgetProcess(pid: number): void {
  pids.delete(pid)
}

export function trackFolder(path: string): void {
  folders.add(path)
}

/** Ends every process and removes every folder that is still there, at once. */
export function cleanUp(): void {
  const killed = [...pids].flatMap(killAll)
  pids.clear()
  // Who has just gone to the background is nobody's child any more, and has not said its number.
  for (const path of folders) killed.push(...processesNaming(path).flatMap(killAll))
  // Until it has ended, what is killed may still make something in its folder.
  while (killed.some(isAlive)) Atomics.wait(still, 0, 0, lookInterval)
  for (const path of folders) rmSync(path, { recursive: true, force: true })
  folders.clear()
}

/** Has `cleanUp` called whenever this process ends, other than by SIGKILL. */
export function cleanUpAtEnd(): void {
  process.on('exit', cleanUp)
  for (const [signal, code] of Object.entries(interrupts))
    process.on(signal, () => {
      process.stderr.write(`\nbench: interrupted by ${signal}: no report is written\n`)
      process.exit(code)
    })
}
