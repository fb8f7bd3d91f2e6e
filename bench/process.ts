import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { once } from 'node:events'
import net from 'node:net'
import { delimiter, join } from 'node:path'
import { forgetProcess, trackProcess } from './cleanup.ts'

/** Linux counts a process's time in ticks of this many nanoseconds (USER_HZ is 100 everywhere). */
const tickNanoseconds = 10_000_000
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
    const options = {
      maxBuffer: 16 * 1024 * 1024,
      timeout: seconds * 1000,
      killSignal: 'SIGKILL',
    } as const
    const child = execFile(program, parameters, options, (error, stdout, stderr) => {
      forgetProcess(pid)
      const why = error?.killed === true ? `not done within ${seconds} s` : error?.message
      resolve({ stdout, failure: why === undefined ? null : `${why} ${stderr}`.trim() })
    })
    const pid = track(child)
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
  private readonly pidFile: string | null
  private daemon = 0

  /** `pidFile` is for a program that goes to the background and leaves its id there. */
  constructor(
    command: readonly string[],
    pidFile: string | null = null,
    environment: NodeJS.ProcessEnv = {},
  ) {
    this.pidFile = pidFile
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
    return this.daemon === 0 ? (this.child.pid ?? 0) : this.daemon
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
      if (!this.running && this.pidFile === null)
        throw new Error(`${this.name} ended: ${this.output}`)
      if (performance.now() > deadline)
        throw new Error(`${this.name} does not listen: ${this.output}`)
      await pause()
    }
    this.findDaemon()
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
    this.findDaemon()
    if (this.daemon !== 0) await endDaemon(this.daemon)
    if (!this.running) return
    this.child.kill('SIGTERM')
    const timer = setTimeout(() => this.child.kill('SIGKILL'), stopTimeout)
    await this.ended
    clearTimeout(timer)
  }

  private findDaemon(): void {
    if (this.pidFile === null || this.daemon !== 0) return
    this.daemon = Number(readIfThere(this.pidFile) ?? 0)
    if (this.daemon !== 0) trackProcess(this.daemon)
  }
}

async function endDaemon(pid: number): Promise<void> {
  const deadline = performance.now() + stopTimeout
  for (let signal: NodeJS.Signals | 0 = 'SIGTERM'; isAlive(pid); signal = 0) {
    try {
      process.kill(pid, performance.now() > deadline ? 'SIGKILL' : signal)
    } catch {
      break
    }
    await pause()
  }
  forgetProcess(pid)
}

/** Whether a process runs: not when it has ended and nobody has asked how. */
export function isAlive(pid: number): boolean {
  const state = pid === 0 ? undefined : statFields(pid)?.[0]
  return state !== undefined && state !== 'Z' && state !== 'X'
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, lookInterval))
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

/** What a process and everything it started have used so far. */
export interface Usage {
  /** Processor time in user and system mode, all threads, those that ended included. */
  readonly cpuNanoseconds: number
  /** The same of the threads that live, exactly. */
  readonly livingNanoseconds: number
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
  let living = 0
  for (const one of descendants(pid)) {
    const fields = statFields(one)
    if (fields === null) continue
    for (let at = 11; at <= 14; at++) ticks += Number(fields[at])
    for (const thread of tasksOf(one)) {
      const time = readIfThere(`/proc/${one}/task/${thread}/schedstat`)
      if (time !== null) living += Number(time.split(' ')[0])
    }
  }
  return {
    cpuNanoseconds: ticks * tickNanoseconds,
    livingNanoseconds: living,
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

function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}
