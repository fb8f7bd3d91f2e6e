import { execFile, type ExecFileException } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { Context } from 'mocha'

const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']

/** Where a program is, also where only root's PATH looks; null when it is not installed. */
export function findProgram(name: string): string | null {
  for (const folder of folders) {
    const path = join(folder, name)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      continue
    }
  }
  return null
}

/** Skips the tests of a `before` or `it` that need programs which are missing, and says which. */
export function needPrograms(context: Context, ...names: readonly string[]): void {
  const missing = names.filter((name) => findProgram(name) === null)
  if (missing.length === 0) return
  console.log(`      skipped: not installed here: ${missing.join(', ')}`)
  context.skip()
}

export interface Outcome {
  /** Exit code; null when a signal ended it, as the time limit does. */
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  /** Milliseconds; then the program is killed. */
  readonly timeout?: number
}

const outputBytesMax = 64 * 1024 * 1024

/** Runs a program to its end without a standard input. Resolves however it ended. */
export function runProgram(
  name: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = execFile(
      findProgram(name) ?? name,
      args,
      { timeout: 240_000, killSignal: 'SIGKILL', maxBuffer: outputBytesMax, ...options },
      (error: ExecFileException | null, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : null
        resolve({ code, stdout, stderr: stderr === '' && error !== null ? error.message : stderr })
      },
    )
    child.stdin?.end()
  })
}

/** Runs a program that has to succeed; throws what it printed if it does not. Gives its output. */
export async function mustRun(
  name: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const { code, stdout, stderr } = await runProgram(name, args, options)
  if (code !== 0)
    throw new Error(`${name} ${args.join(' ')}: exit ${code ?? 'by a signal'}\n${stdout}${stderr}`)
  return stdout
}
