import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { once } from 'node:events'
import net from 'node:net'
import { delimiter, join } from 'node:path'
import { forgetProcess, trackProcess } from './cleanup.ts'
import { isAlive, killAll } from './proc.ts'

/** Milliseconds a process gets to listen, and to leave after SIGTERM. */
const startTimeout = 20_000
const stopTimeout = 5_000
/** Milliseconds in which who was let in is greeted. */
const greetTimeout = 2_000
/** Milliseconds between two looks at what cannot be waited for. */
const lookInterval = 20

/** The full path of a program, or null when it is not installed. */
export function findProgram(name: string): string | null {
  for (const folder of [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']) {
    const path = join(folder, name)
    if (folder !== '' && existsSync(path)) return path
  }
  return null
}

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
  constructor(
    command: readonly string[],
    environment: NodeJS.ProcessEnv = {},
    patience = stopTimeout,
  ) {
    this.patience = patience
    const [program, ...parameters] = command
    this.name = command.join(' ')
    this.child = spawn(program!, parameters, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...environment },
    })
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

  /**
   * Waits until a client is greeted at the socket's path or port, or until the program has printed
   * `ready`, for one whose clients speak first.
   */
  async listening(
    at: { path: string } | { host: string; port: number },
    ready: string | null,
  ): Promise<void> {
    const deadline = performance.now() + startTimeout
    while (!(ready === null ? await greets(at) : this.output.includes(ready))) {
      if (!this.running) throw new Error(`${this.name} ended: ${this.output}`)
      if (performance.now() > deadline)
        throw new Error(`${this.name} does not listen: ${this.output}`)
      await new Promise((resolve) => setTimeout(resolve, lookInterval))
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

/** Whether somebody is let in and greeted: a server that is still starting hangs up. */
function greets(at: { path: string } | { host: string; port: number }): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = net.connect(at)
    const end = (ready: boolean): void => {
      probe.destroy()
      resolve(ready)
    }
    probe.setTimeout(greetTimeout, () => end(false))
    probe.once('data', () => end(true))
    probe.once('close', () => end(false))
    probe.once('error', () => end(false))
  })
}
