import yargs, { type Argv } from 'yargs'
import { hideBin } from 'yargs/helpers'
import { timerMax } from '../base/clock.ts'
import { attach, detach } from './attach.ts'
import { bench } from './bench.ts'
import { bridge } from './bridge.ts'
import { check } from './check.ts'
import { crypt } from './crypt.ts'
import { claim } from './claim.ts'
import { Examples } from './examples.ts'
import { Exit, report, UsageError } from './exit.ts'
import { init } from './init.ts'
import { leg } from './leg.ts'
import { list } from './list.ts'
import { serve } from './serve.ts'
import { status } from './status.ts'
import { tls } from './tls.ts'
import { token } from './token.ts'
import { verify } from './verify.ts'
import { volume } from './volume.ts'
import { flag } from './options.ts'

/** The commands; each file adds its own. */
const commands = [
  init,
  serve,
  check,
  list,
  status,
  bridge,
  attach,
  detach,
  leg,
  volume,
  verify,
  claim,
  crypt,
  tls,
  token,
  bench,
]

const columnsMax = 100

function parser(words: readonly string[], examples: Examples): Argv {
  const base = examples
    .collect(yargs([...words]))
    .scriptName('dst')
    .usage('dst COMMAND: block storage from a tree of files, memory, remotes, linears and mirrors')
    .option('verbose', flag('show the stack of an error'))
    .demandCommand(1, 'a command is missing; dst --help lists them')
    .strict()
    .recommendCommands()
    // Hidden from the list, because it completes all words behind it, --help as well.
    .completion('completion', false)
    .help()
    .wrap(Math.min(columnsMax, process.stdout.columns || columnsMax))
    .example('dst serve config.json', 'serve what the file describes')
    .example('dst status', 'show the state of the running target')
    .epilogue('For a shell that completes commands: dst completion >>~/.bashrc')
    .epilogue('Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.')
    .check(givenOnce, true)
    .exitProcess(false)
    .fail((message: string | null, error: Error | undefined, usage: unknown) => {
      throw error ?? new UsageError(usageWords(message ?? 'wrong usage', usage as Usage))
    })
  return commands.reduce<Argv>((all, add) => add(all), base)
}

/** The object that yargs hands over, contrary to its types: the usage has `$0` in front. */
interface Usage {
  getUsage(): readonly (readonly [usage: string, description: string])[]
}

/** Says what is wrong with the command line, and names the words that are missing. */
function usageWords(message: string, usage: Usage): string {
  const counts = /^Not enough non-option arguments: got (\d+)/.exec(message)
  if (counts === null) return message.replace(/^Did/, 'unknown command: did')
  const text = usage.getUsage()[0]?.[0].replace('$0', 'dst') ?? 'dst COMMAND'
  const names = [...text.matchAll(/<[^>]+>/g)].map(([name]) => name)
  const missing = names.slice(Number(counts[1]))
  const are = missing.length > 1 ? 'are' : 'is'
  return `${missing.join(' and ') || 'a word'} ${are} missing: ${text}`
}

/** Options that may be given several times. */
const severalTimes = new Set(['_', 'listen', 'host'])

function givenOnce(options: Readonly<Record<string, unknown>>): true {
  for (const [name, value] of Object.entries(options))
    if (Array.isArray(value) && !severalTimes.has(name))
      throw new UsageError(`--${name} is given more than once`)
  return true
}

/** Ends the process when its output cannot be written, mostly because its reader has ended. */
function endWithoutOutput(error: NodeJS.ErrnoException): void {
  process.exit(error.code === 'EPIPE' ? process.exitCode : Exit.failed)
}

process.stdout.on('error', endWithoutOutput)
process.stderr.on('error', endWithoutOutput)
const words = hideBin(process.argv)
// A command may wait for a timer alone, such as while a server is away. Our timers keep no process
// alive, so Node would end in the middle of the command, without a word.
const alive = setInterval(() => undefined, timerMax)
const examples = new Examples()
try {
  await parser(words, examples).parseAsync(words, {}, (_, __, output) => {
    if (output !== '') process.stdout.write(`${examples.fill(output)}\n`)
  })
  process.exitCode ??= Exit.done
} catch (error) {
  process.exitCode = report(error, words.includes('--verbose') ? 'with-stack' : 'message')
} finally {
  clearInterval(alive)
}
