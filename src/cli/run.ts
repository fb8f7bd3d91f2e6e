import { readFileSync } from 'node:fs'
import bunyan from 'bunyan'
import { systemClock, timerMax } from '../base/clock.ts'
import { StorageError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { systemRandom } from '../base/random.ts'
import { Slab } from '../base/slab.ts'
import { formatAddress } from '../net/address.ts'
import { SocketNetwork } from '../net/sockets.ts'
import type * as config from '../config/config.types.ts'
import { Target } from '../daemon/target.ts'
import { TargetManager } from '../manage/commands.ts'
import { ManagementServer } from '../manage/management.ts'
import { Exit } from './exit.ts'
import { LogOutput } from './log-output.ts'
import { textOf } from './log-text.ts'
import { printableLines, printLine } from './print.ts'

/** Name and version, as `status` shows them. */
const program = `dst ${version()}`

/**
 * Starts to serve; a signal will stop that and end the process. Rejects with a StorageError when
 * the start fails. Standard output tells where the exports are; standard error is the log, which
 * begins with the `warnings` about the configuration. `mustServe` throws for what is not worth
 * serving, once the devices were tried.
 */
export async function runTarget(
  config: config.Config,
  warnings: readonly string[] = [],
  mustServe: (target: Target, log: Log) => void = () => undefined,
): Promise<void> {
  const output = new LogOutput((lines) => {
    log.warn({ lines }, `${lines} lines were dropped: whoever reads the log stood still`)
  })
  const format = process.stderr.isTTY ? textOf : lineOf
  const write = (record: object): void => output.write(format(record))
  const log = bunyan.createLogger({
    name: 'dst',
    streams: [{ type: 'raw', stream: { write }, level: config.log.level }],
    serializers: { err: serializeError },
  })
  for (const warning of warnings) log.warn({}, warning)
  dieLoudly(log)
  goOnUnheard()
  const world = {
    clock: systemClock,
    random: systemRandom,
    network: new SocketNetwork(),
    slab: new Slab(),
    log,
  }
  const target = new Target(config, world, ({ target, refusals, commands, descriptors }) => {
    const manager = new TargetManager(target, program, commands)
    return new ManagementServer(manager, refusals, descriptors)
  })
  // Timers do not keep the process alive, and a target that stops has no listeners left to do so.
  const alive = setInterval(() => undefined, timerMax)
  const isStopping = stopOnSignals(target, log, output)
  try {
    await target.start()
    await begin(target, () => mustServe(target, log))
  } catch (error) {
    clearInterval(alive)
    throw error
  }
  // A start ends as well when a stop has closed what it was opening.
  if (isStopping()) return
  announce(target)
  log.info({ devices: target.tree.devices.length }, 'serving')
}

/**
 * What reads the log for people prints the texts as they are. An error under whatever key has its
 * text: JSON alone would leave it out.
 */
function lineOf(record: object): string {
  const harmless = (_: string, value: unknown): unknown => {
    if (value instanceof Error) return serializeError(value)
    return typeof value === 'string' ? printableLines(value) : value
  }
  return `${JSON.stringify(record, harmless)}\n`
}

/** A stack says something about our mistakes alone. */
function serializeError(error: unknown): unknown {
  if (!(error instanceof StorageError)) return bunyan.stdSerializers.err(error)
  const { code, message, device } = error
  return { code, message, device }
}

/** One line that a supervisor keeps, then the end: nothing can be trusted after our own mistake. */
function dieLoudly(log: bunyan): void {
  process.on('uncaughtException', (error: Error) => {
    log.fatal({ err: error }, `stopping at once: ${error.message}`)
    process.exit(Exit.failed)
  })
}

/** Whoever reads the log may go away, and its disk may be full: clients are served all the same. */
function goOnUnheard(): void {
  for (const stream of [process.stdout, process.stderr])
    stream.removeAllListeners('error').on('error', () => undefined)
}

/**
 * Milliseconds in which a signal that comes again is the same wish: who stops a group of processes,
 * such as a terminal with npx in between, sends it to us twice.
 */
const sameSignalMs = 1000

/**
 * Ends the process when a signal has stopped the target, or at once at another one that comes
 * later. What it returns tells whether there was one.
 */
function stopOnSignals(target: Target, log: bunyan, output: LogOutput): () => boolean {
  let first: { readonly signal: string; readonly at: number } | null = null
  const signalled = (signal: string): void => {
    const at = systemClock.now()
    if (first !== null) {
      if (first.signal === signal && at - first.at < sameSignalMs) return
      log.warn({ signal }, 'stopping at once')
      process.exit(Exit.failed)
    }
    first = { signal, at }
    void target.stop().then(async (clean) => {
      await output.flush()
      process.exit(clean ? Exit.done : Exit.failed)
    })
  }
  process.on('SIGTERM', signalled)
  process.on('SIGINT', signalled)
  process.on('SIGHUP', () => {
    log.warn({}, 'reloading the configuration is not supported: restart instead')
  })
  return () => first !== null
}

async function begin(target: Target, mustServe: () => void): Promise<void> {
  try {
    mustServe()
  } catch (error) {
    await target.stop()
    throw error
  }
}

function announce(target: Target): void {
  const { managementAddress: management } = target
  if (management !== null) printLine(`management  ${formatAddress(management)}`)
  for (const { name } of target.exports.list())
    for (const uri of target.urisOf(name)) printLine(`${name || '""'}  ${uri}`)
  printLine('ready')
}

function version(): string {
  // Compiled, this file is three levels below the top of the project.
  const place = new URL('../../../package.json', import.meta.url)
  return (JSON.parse(readFileSync(place, 'utf8')) as { version: string }).version
}
