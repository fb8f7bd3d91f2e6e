import type { ArgumentsCamelCase, Argv, InferredOptionTypes } from 'yargs'
import { defined } from '../base/guards.ts'
import { describeSize, parseSize, sizeMeant } from '../base/size.ts'
import type { VerifyResult } from '../mirror/data/verify.ts'
import { ManagementClient, managementOptions } from './client.ts'
import { Exit, UsageError } from './exit.ts'
import { printError, printJson, printLine } from './print.ts'
import { whileVerifying } from './progress.ts'
import { flag, optional, required } from './options.ts'

/** Differences that are listed one by one; the others are counted. */
const listedMax = 20

const verifyOptions = {
  repair: {
    type: 'boolean',
    default: true,
    describe: 'let a majority of three or more legs repair the others',
  },
  'repair-from': optional('the leg that is right, of two'),
  speed: optional('bytes per second at most, such as 50M'),
  stop: flag('end the verify that is under way, however it was started'),
  json: flag('the result as JSON'),
  ...managementOptions,
} as const
type Options = ArgumentsCamelCase<InferredOptionTypes<typeof verifyOptions>> & {
  readonly volume: string
}

/** Adds `dst verify`: compares the legs of a running mirror. */
export function verify(yargs: Argv): Argv {
  return yargs.command(
    'verify <volume>',
    'compare all legs of a mirror while it runs, and repair by majority',
    (options) =>
      options
        .positional('volume', required('the mirror'))
        .options(verifyOptions)
        .example('dst verify home --speed 50M', 'compare, without hurry')
        .example('dst verify home --repair-from left', 'where two legs differ, left is right')
        .epilogue(
          'Ctrl-C ends the verify and says what was found so far. ' +
            'Exit codes: 0 equal or repaired, 1 legs differ or not all compared, 2 wrong usage.',
        ),
    (options) => run(options),
  )
}

async function run(options: Options): Promise<void> {
  const { volume, repair, repairFrom, speed, json } = options
  const bytesPerSecond = speed === undefined ? undefined : parseSize(speed)
  if (bytesPerSecond === null)
    throw new UsageError(`--speed "${speed!}" is no size${sizeMeant(speed!)}`)
  const client = new ManagementClient(options)
  if (options.stop) {
    await client.command(['volumes', volume, 'stopVerify'])
    return
  }
  const asked = defined({ repair, repairFrom, bytesPerSecond })
  const work = client.command(['volumes', volume, 'verify'], asked)
  stopOnSignals(client, volume)
  const result = (await whileVerifying(client, volume, work)) as VerifyResult
  if (json) printJson(result)
  else for (const line of describe(result)) printLine(line)
  if (result.bytesDifferent > result.bytesRepaired || !result.complete)
    process.exitCode = Exit.failed
}

/** Ends the verify at a signal: one that goes on unseen would be in the way of the next. */
function stopOnSignals(client: ManagementClient, volume: string): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(signal, () => {
      client.command(['volumes', volume, 'stopVerify']).catch((error: unknown) => {
        const how = `dst verify ${volume} --stop`
        printError(`the verify goes on, \`${how}\` ends it: ${(error as Error).message}`)
        process.exit(Exit.failed)
      })
    })
}

function describe(result: VerifyResult): string[] {
  const { bytesChecked, bytesDifferent, bytesRepaired, differences, complete } = result
  const checked = `${describeSize(bytesChecked)}${complete ? '' : ', not all,'}`
  if (bytesDifferent === 0) return [`${checked} compared: the legs are equal`]
  const lines = differences
    .slice(0, listedMax)
    .map(({ offset, length, legs }) => `  ${length} bytes at ${offset}: ${legs.join(', ')}`)
  if (differences.length > listedMax) lines.push(`  and ${differences.length - listedMax} more`)
  const head = `${checked} compared: ${bytesDifferent} bytes differ, ${bytesRepaired} repaired`
  return [head, ...lines]
}
