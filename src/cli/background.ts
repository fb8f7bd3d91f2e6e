import type { SpawnOptions } from 'node:child_process'
import fs from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { StorageError } from '../base/errors.ts'
import { startProgram } from '../base/program.ts'
import { makeFolder } from '../base/folders.ts'

/** The folder of the files of bridges, which `detach` needs and removes. */
const runDirectory = '/run/dst'

/** Milliseconds for a bridge to get ready: slow machines take long to start one. */
const startTimeoutMs = 120_000
/** Milliseconds for a bridge to end: more than it gives its requests in flight (20 s). */
const stopTimeoutMs = 30_000
/** Milliseconds between two looks at a condition. */
const lookIntervalMs = 20

interface Places {
  readonly socket: string
  readonly log: string
  /** A file with the number of the bridge's process. */
  readonly record: string
}

function placesOf(device: string): Places {
  const name = join(runDirectory, basename(device))
  return { socket: `${name}.sock`, log: `${name}.log`, record: `${name}.json` }
}

/**
 * Starts a bridge that outlives this command. Resolves to the path of its socket when it is ready;
 * rejects with a StorageError that has the last line of its log, which is beside the socket.
 */
export async function startBridge(
  device: string,
  uri: string,
  flags: readonly string[],
): Promise<string> {
  const { socket, log, record } = placesOf(device)
  await makeOwnFolder()
  const output = openNew(log)
  const words = [process.argv[1]!, 'bridge', uri, '--listen', `unix:${socket}`, ...flags]
  // In the root folder, because a file system with its working folder could not be unmounted.
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
    fs.closeSync(output)
    // Before the bridge is ready, so that it can be found if this command ends early.
    fs.rmSync(record, { force: true })
    fs.writeFileSync(record, JSON.stringify({ pid: child?.pid ?? 0 }), { flag: 'wx', mode: 0o600 })
    const timer = setTimeout(fail, startTimeoutMs, `was not ready in ${startTimeoutMs} ms`)
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
  const line = fs.readFileSync(log, 'utf8').trimEnd().split('\n').at(-1)!
  return line === '' ? '' : `: ${line.replace(/^dst: error: /, '')}`
}

/** Ends the bridge of a device, if there is one, and removes its files. */
export async function stopBridge(device: string): Promise<void> {
  const { socket, log, record } = placesOf(device)
  const isThere = (): boolean => bridgesAt(socket).length > 0
  for (const pid of bridgesAt(socket)) signal(pid, 'SIGTERM')
  if (!(await within(stopTimeoutMs, () => !isThere())))
    for (const pid of bridgesAt(socket)) signal(pid, 'SIGKILL')
  // Files in a folder of another user are not ours.
  if (whoseFolder() === null)
    for (const path of [socket, log, record]) fs.rmSync(path, { force: true })
}

/** True if the bridge of a device died, so that the kernel gets no answers. */
export function bridgeDied(device: string): boolean {
  const { record, socket } = placesOf(device)
  return fs.existsSync(record) && bridgesAt(socket).length === 0
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch {
    // The process has ended meanwhile.
  }
}

const advice =
  'root does not write there; a service wants a folder of its own, RuntimeDirectory=dst/target'

/** Makes the folder. Rejects if another user could have us write through a link in it. */
async function makeOwnFolder(): Promise<void> {
  await makeFolder(runDirectory, 0o755)
  const problem = whoseFolder()
  if (problem !== null) throw new StorageError('CONFIG', `${runDirectory} ${problem}: ${advice}`)
}

/** Says why other users can change the folder; null when they cannot. */
function whoseFolder(): string | null {
  const stats = fs.lstatSync(runDirectory, { throwIfNoEntry: false })
  if (stats === undefined) return null
  if (!stats.isDirectory()) return 'is no folder'
  if (stats.uid !== process.getuid!()) return `belongs to another user (${stats.uid})`
  return (stats.mode & 0o022) === 0 ? null : 'can be written to by others'
}

/** Opens a new file in place of an old one or a link, which would be written through. */
function openNew(path: string): number {
  fs.rmSync(path, { force: true })
  return fs.openSync(path, 'wx', 0o600)
}

/** Waits for a condition. Resolves to false if it is not met in `time` milliseconds. */
export async function within(time: number, isSo: () => boolean): Promise<boolean> {
  const until = performance.now() + time
  while (!isSo()) {
    if (performance.now() > until) return false
    await pause(lookIntervalMs)
  }
  return true
}

/**
 * The process numbers of the bridges that serve the socket, found among all processes of this user:
 * a recorded number may be used again, and the record may be lost while the bridge lives on.
 */
function bridgesAt(socket: string): number[] {
  const pids = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  return pids.map(Number).filter((pid) => serves(pid, socket))
}

function serves(pid: number, socket: string): boolean {
  try {
    if (fs.statSync(`/proc/${pid}`).uid !== process.getuid!()) return false
    const words = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
    return words.includes('bridge') && words.includes(`unix:${socket}`)
  } catch {
    return false
  }
}
