import type { SpawnOptions } from 'node:child_process'
import { closeSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { StorageError } from '../base/errors.ts'
import { startProgram } from '../base/program.ts'
import { makeFolder } from '../base/folders.ts'
import { isObject } from '../target/tree.ts'

/** Where bridges of attached devices leave what `detach` needs, and nothing once it is done. */
const runDirectory = '/run/dst'

/** Milliseconds for a bridge to say that it is ready: slow machines take long to start one. */
const startTimeout = 120_000
/** Milliseconds for a bridge to end: more than it gives itself for what is in flight (20 s). */
const stopTimeout = 30_000
/** Milliseconds between two looks at what cannot be waited for. */
const lookInterval = 20

interface Places {
  readonly socket: string
  readonly log: string
  /** Has the number of the bridge's process. */
  readonly record: string
}

function placesOf(device: string): Places {
  const name = join(runDirectory, basename(device))
  return { socket: `${name}.sock`, log: `${name}.log`, record: `${name}.json` }
}

/**
 * Starts a bridge that outlives this command; gives the path of its socket when it is ready.
 * Rejects with a StorageError that has its last words. Its log is beside its socket.
 */
export async function startBridge(
  device: string,
  uri: string,
  flags: readonly string[],
): Promise<string> {
  const { socket, log, record } = placesOf(device)
  await makeFolder(runDirectory, 0o700)
  const output = openSync(log, 'w', 0o600)
  const words = [process.argv[1]!, 'bridge', uri, '--listen', `unix:${socket}`, ...flags]
  // Whatever folder it stayed in could not be unmounted.
  const options: SpawnOptions = { cwd: '/', detached: true, stdio: ['ignore', 'pipe', output] }
  await new Promise<void>((resolve, reject) => {
    const fail = (why: string): void => {
      clearTimeout(timer)
      reject(new StorageError('UNAVAILABLE', `the bridge ${why}${lastWords(log)}`))
    }
    const child = startProgram(
      process.execPath,
      [...process.execArgv, ...words],
      options,
      (error) => fail(`could not be started: ${error.message}`),
    )
    closeSync(output)
    // Before it is of use to anybody, so that it is found whenever this command ends.
    writeFileSync(record, JSON.stringify({ pid: child?.pid ?? 0 }), { mode: 0o600 })
    const timer = setTimeout(fail, startTimeout, `was not ready in ${startTimeout} ms`)
    if (child === null) return
    const stdout = child.stdout!
    let said = ''
    stdout.on('data', (text: Buffer) => {
      said += text.toString()
      if (!/^ready$/m.test(said)) return
      clearTimeout(timer)
      child.removeAllListeners('exit')
      stdout.destroy()
      child.unref()
      resolve()
    })
    child.once('exit', (code) => fail(`ended with exit code ${code ?? 'none'}`))
  })
  return socket
}

/** The last line of a log, after a colon. */
function lastWords(log: string): string {
  const line = readFileSync(log, 'utf8').trimEnd().split('\n').at(-1)!
  return line === '' ? '' : `: ${line.replace(/^dst: error: /, '')}`
}

/** Ends the bridge of a device, if there is one, and leaves nothing of it. */
export async function stopBridge(device: string): Promise<void> {
  const { socket, log, record } = placesOf(device)
  const pid = pidIn(record)
  const isBridge = (): boolean => pid !== 0 && serves(pid, socket)
  if (isBridge()) {
    process.kill(pid)
    if (!(await within(stopTimeout, () => !isBridge()))) process.kill(pid, 'SIGKILL')
  }
  for (const path of [socket, log, record]) rmSync(path, { force: true })
}

/** Waits until something is so; false when it was not in time, in milliseconds. */
export async function within(time: number, isSo: () => boolean): Promise<boolean> {
  const until = performance.now() + time
  while (!isSo()) {
    if (performance.now() > until) return false
    await pause(lookInterval)
  }
  return true
}

function pidIn(record: string): number {
  try {
    const found: unknown = JSON.parse(readFileSync(record, 'utf8'))
    return isObject(found) && typeof found['pid'] === 'number' ? found['pid'] : 0
  } catch {
    return 0
  }
}

/** Whether the process is still the one that serves the socket: numbers are used again. */
function serves(pid: number, socket: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(`unix:${socket}`)
  } catch {
    return false
  }
}
