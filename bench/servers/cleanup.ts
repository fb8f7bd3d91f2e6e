import { rmSync } from 'node:fs'
import { killAll, processesNaming } from './proc.ts'

/**
 * Processes and folders that shall not outlive this run: taken away when it ends, also by an error
 * that nobody caught, and by an interrupt.
 */
const pids = new Set<number>()
const folders = new Set<string>()

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
  for (const pid of pids) killAll(pid)
  pids.clear()
  // Who has just gone to the background is nobody's child any more, and has not said its number.
  for (const path of folders) for (const pid of processesNaming(path)) killAll(pid)
  // What a process that is being killed still makes is removed by another try.
  for (const path of folders)
    rmSync(path, { recursive: true, force: true, maxRetries: 10, retryDelay: 20 })
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
