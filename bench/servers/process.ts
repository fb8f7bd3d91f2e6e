import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { forgetProcess, trackProcess } from './cleanup.ts'
import { isAlive, killAll } from './proc.ts'

/**
 * Milliseconds a process gets to listen, also on a machine with much else to do, and to leave after
 * SIGTERM.
 */
const startTimeout = 120_000
const stopTimeout = 5_000
/** Milliseconds between two looks at what cannot be waited for. */
const lookInterval = 20

/** What a program printed, and why it failed: null when it did not. */
export interface Outcome {
  readonly stdout: string
  readonly failure: string | null
}

/** Runs a program to its end; one that takes longer than `seconds` is killed, and has failed. */
export function runProgram(
  program: string,
  parameters: readonly string[],
  seconds: number,
): Promise<Outcome> {
  return new Promise((resolve) => {
    let late = false
    const options = { maxBuffer: 16 * 1024 * 1024 }
    const child = execFile(program, parameters, options, (error, stdout, stderr) => {
      clearTimeout(timer)
      const why = late ? `not done within ${seconds} s` : error?.message
      resolve({ stdout, failure: why === undefined ? null : `${why} ${stderr}`.trim() })
    })
    const pid = track(child)
    const timer = setTimeout(() => {
      late = true
      killAll(pid)
    }, seconds * 1000)
  })
}

/** Has a child ended with this process; its number, 0 if it was not started. */
export function track(child: ChildProcess): number {
  const { pid = 0 } = child
  if (pid !== 0) trackProcess(pid)
  child.once('exit', () => forgetProcess(pid))
  return pid
}

/** A program that was started to be measured. Whatever it says goes into an error that names it. */
export class Process {
  readonly child: ChildProcess
  private readonly name: string
  private output = ''
  private readonly ended: Promise<unknown>
  private readonly patience: number

  /** After `patience` milliseconds SIGTERM becomes SIGKILL. */
  constructor(command: readonly string[], patience = stopTimeout) {
    this.patience = patience
    const [program, ...parameters] = command
    this.name = command.join(' ')
    this.child = spawn(program!, parameters, { stdio: ['ignore', 'pipe', 'pipe'] })
    const keep = (chunk: Buffer): void => {
      this.output = (this.output + chunk.toString()).slice(-4000)
    }
    this.child.stdout?.on('data', keep)
    this.child.stderr?.on('data', keep)
    this.child.on('error', (error) => (this.output += error.message))
    track(this.child)
    // Not `close`: what it has started may hold its output open.
    this.ended = once(this.child, 'exit').catch(() => undefined)
  }

  get pid(): number {
    return this.child.pid ?? 0
  }

  private get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null && this.pid !== 0
  }

  /** Waits until an attempt to use it does not fail. */
  async listening(attempt: () => Promise<void>): Promise<void> {
    const deadline = performance.now() + startTimeout
    for (;;) {
      const failure = await attempt().then(() => null, messageOf)
      if (failure === null) return
      if (!this.running) throw new Error(`${this.name} ended: ${this.output}`)
      if (performance.now() > deadline)
        throw new Error(`${this.name} does not listen: ${failure} ${this.output}`)
      await sleep(lookInterval)
    }
  }

  /** Why it can no longer be measured; null while it runs. */
  get failure(): string | null {
    if (isAlive(this.pid)) return null
    const { exitCode, signalCode } = this.child
    const how = signalCode ?? (exitCode === null ? '' : `exit code ${exitCode}`)
    const [line = ''] = this.output.trim().split('\n').slice(-1)
    return ['the server has ended', how, line].filter((part) => part !== '').join(': ')
  }

  /** Ends it, with SIGKILL if it does not want to. */
  async stop(): Promise<void> {
    if (!this.running) return
    this.child.kill('SIGTERM')
    const timer = setTimeout(() => killAll(this.pid), this.patience)
    await this.ended
    clearTimeout(timer)
  }
}

/** The first line of what went wrong. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
}
