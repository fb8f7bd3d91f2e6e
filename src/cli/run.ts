import { readFileSync } from 'node:fs'
import bunyan from 'bunyan'
import { systemClock, timerMax } from '../base/clock.ts'
import { StorageError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { systemRandom } from '../base/random.ts'
import { Slab } from '../base/slab.ts'
import { SocketNetwork } from '../net/sockets.ts'
import type * as config from '../config/config.types.ts'
import { Target } from '../daemon/target.ts'
import { Managements } from '../manage/managements.ts'
import { Exit } from './exit.ts'
import { LogOutput } from './log-output.ts'
import { textOf } from './log-text.ts'
import { printableLines, printLine } from './print.ts'

/** Name and version, as `status` shows them. */
const program = `dst ${version()}`

/** How a target runs, beside its configuration. */
interface Running {
  /** About the configuration: the log begins with them. */
  readonly warnings?: readonly string[]
  /** Called when the devices were tried; may throw to end the start. */
  readonly mustServe?: (target: Target, log: Log) => void
  /** Reads the configuration again; throws where it is wrong. Absent: it is in no file. */
  readonly reread?: () => config.Config
}

/**
 * Starts to serve; a signal later stops the target and ends the process. Rejects with a
 * StorageError when the start fails. Standard output has the URIs of the exports; standard error is
 * the log.
 */
export async function runTarget(
  config: config.Config,
  { warnings = [], mustServe = () => undefined, reread }: Running = {},
): Promise<void> {
  const output = new LogOutput((lines) => {
    log.warn({ lines }, `${lines} lines were dropped: the reader of the log stood still`)
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
  const target = new Target(config, world, (context) => new Managements(context, program))
  // Timers do not keep the process alive, and a target that stops has no listeners left to do so.
  const alive = setInterval(() => undefined, timerMax)
  const isStopping = stopOnSignals(target, log, output, reread)
  try {
    await target.start()
    await begin(target, () => mustServe(target, log))
  } catch (error) {
    clearInterval(alive)
    throw error
  }
  // A start also ends when a stop has closed the devices that it was opening.
  if (isStopping()) return
  announce(target)
  log.info({ devices: target.tree.devices.length }, 'serving')
}

/**
 * A record of the log as a line of JSON. Texts are made printable, because tools show them to
 * people as they are. Errors get their message under every key: JSON alone would leave it out.
 */
function lineOf(record: object): string {
  const harmless = (_: string, value: unknown): unknown => {
    if (value instanceof Error) return serializeError(value)
    return typeof value === 'string' ? printableLines(value) : value
  }
  return `${JSON.stringify(record, harmless)}\n`
}

/** An error as JSON; only one that is our own mistake has its stack. */
function serializeError(error: unknown): unknown {
  if (!(error instanceof StorageError)) return bunyan.stdSerializers.err(error)
  const { code, message, device } = error
  return { code, message, device }
}

/** Logs a mistake of our own and ends the process, which cannot be trusted after that. */
function dieLoudly(log: bunyan): void {
  process.on('uncaughtException', (error: Error) => {
    log.fatal({ err: error }, `stopping at once: ${error.message}`)
    process.exit(Exit.failed)
  })
}

/** Goes on when the reader of the log goes away or its disk is full: clients still need us. */
function goOnUnheard(): void {
  for (const stream of [process.stdout, process.stderr])
    stream.removeAllListeners('error').on('error', () => undefined)
}

/**
 * Milliseconds in which a repeated signal counts once: stopping a group of processes, such as by a
 * terminal with npx in between, sends it to us twice.
 */
const sameSignalMs = 1000

/**
 * Stops the target at a signal and then ends the process; a second signal ends it at once. Returns
 * a function that says whether there was a signal.
 */
function stopOnSignals(
  target: Target,
  log: bunyan,
  output: LogOutput,
  reread: Running['reread'],
): () => boolean {
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
    const what = reread === undefined ? '' : ', and the rules and limits of exports'
    log.info({}, `reading the files of credentials${what}; the rest is read by a restart`)
    void target.reload(reread)
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
  for (const place of target.managements) printLine(`management  ${place}`)
  for (const { name } of target.exports.list())
    for (const uri of target.urisOf(name)) printLine(`${name || '""'}  ${uri}`)
  printLine('ready')
}

function version(): string {
  // Compiled, this file is three levels below the top of the project.
  const place = new URL('../../../package.json', import.meta.url)
  return (JSON.parse(readFileSync(place, 'utf8')) as { version: string }).version
}
