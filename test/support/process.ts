import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { runProgram, type Outcome } from './programs.ts'

const program = resolve('dist/src/cli/main.js')
/** Characters of a process's output that are kept for a report. */
const outputMax = 200_000
const reportMax = 4_000

/** What a process gets from its surroundings; as this process has it where nothing is said. */
export interface Surroundings {
  /** How many files it may have open. */
  readonly openFiles?: number
  /** The network namespace it runs in. */
  readonly namespace?: string
}

/** A `dst` command that stays: a target, a bridge. It can die and be started again. */
export class DstProcess {
  readonly args: readonly string[]
  private readonly cwd: string
  private readonly surroundings: Surroundings
  private child: ChildProcessByStdio<null, Readable, Readable> | null = null
  /** What it printed so far, in all its lives. */
  stdout = ''
  stderr = ''

  constructor(args: readonly string[], cwd: string, surroundings: Surroundings = {}) {
    this.args = args
    this.cwd = cwd
    this.surroundings = surroundings
  }

  get running(): boolean {
    return this.child !== null && this.child.exitCode === null && this.child.signalCode === null
  }

  get pid(): number | undefined {
    return this.child?.pid
  }

  /** Starts it, or starts it again; resolves when it says that it is ready. */
  async start(): Promise<void> {
    const { openFiles, namespace } = this.surroundings
    const limit = ['sh', '-c', `ulimit -n ${openFiles}; exec "$@"`, 'sh']
    const [name, ...rest] = [
      ...(namespace === undefined ? [] : ['ip', 'netns', 'exec', namespace]),
      ...(openFiles === undefined ? [] : limit),
      ...[process.execPath, program, ...this.args],
    ]
    const child = spawn(name!, rest, {
      cwd: this.cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    child.stdout.on('data', (text: Buffer) => {
      this.stdout = (this.stdout + text.toString()).slice(-outputMax)
    })
    child.stderr.on('data', (text: Buffer) => {
      this.stderr = (this.stderr + text.toString()).slice(-outputMax)
    })
    this.child = child
    // All it has to say to the world is where its exports are, and then this word.
    const ready = new Promise<void>((resolve, reject) => {
      let said = ''
      child.stdout.on('data', (text: Buffer) => {
        said += text.toString()
        if (/^ready$/m.test(said)) resolve()
      })
      child.once('exit', (code, signal) => {
        reject(new Error(`dst ended before it was ready: ${code ?? signal ?? ''}\n${this.stderr}`))
      })
    })
    await ready
  }

  /** Sends a signal and waits for the end. Gives the exit code, null after a signal's death. */
  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<number | null> {
    const { child } = this
    if (child === null) return null
    if (this.running) {
      const over = once(child, 'exit')
      child.kill(signal)
      await over
    }
    return child.exitCode
  }
}

/** Runs a `dst` command to its end. */
export function dst(args: readonly string[], cwd: string, timeout = 60_000): Promise<Outcome> {
  return runProgram(process.execPath, [program, ...args], { cwd, timeout })
}

/** Runs a `dst` command until it has printed so many lines, then kills it; the lines. */
export async function dstLines(
  args: readonly string[],
  cwd: string,
  count: number,
): Promise<string[]> {
  const child = spawn(process.execPath, [program, ...args], {
    cwd,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const over = once(child, 'exit')
  const lines: string[] = []
  for await (const line of createInterface(child.stdout)) if (lines.push(line) === count) break
  child.kill('SIGKILL')
  await over
  return lines
}

/** A folder for one test, and the processes that shall not outlive it. */
export class Workshop {
  readonly folder = mkdtempSync(join(tmpdir(), 'dst-test-'))
  private readonly processes: DstProcess[] = []
  private readonly others: (() => unknown)[] = []

  /** Writes a configuration and starts a target with it, which has a state directory of its own. */
  async serve(name: string, config: object, surroundings?: Surroundings): Promise<DstProcess> {
    this.write(name, { state: { directory: `state/${name}` }, ...config })
    return this.run(['serve', `${name}.json`], surroundings)
  }

  write(name: string, config: object): void {
    writeFileSync(join(this.folder, `${name}.json`), JSON.stringify(config, null, 2))
  }

  /** Starts a command that stays. */
  async run(args: readonly string[], surroundings?: Surroundings): Promise<DstProcess> {
    const process = new DstProcess(args, this.folder, surroundings)
    this.processes.push(process)
    await process.start()
    return process
  }

  /** Has something undone at the end. */
  later(undo: () => unknown): void {
    this.others.push(undo)
  }

  /** What the processes logged last, for the report of a test that failed. */
  logs(): string {
    return this.processes
      .map(({ args, stderr }) => `== dst ${args.join(' ')}\n${stderr.slice(-reportMax)}`)
      .join('\n')
  }

  async close(): Promise<void> {
    for (const undo of this.others.reverse()) await undo()
    for (const process of this.processes.reverse()) await process.stop('SIGKILL')
    rmSync(this.folder, { recursive: true, force: true })
  }
}
