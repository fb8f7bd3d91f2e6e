import type { Argv } from 'yargs'
import { loadConfig } from '../config/config.ts'
import { runTarget } from './run.ts'
import { required } from './options.ts'

/** Adds `dst serve`: runs a target. */
export function serve(yargs: Argv): Argv {
  return yargs.command(
    'serve <file>',
    'serve the exports of a configuration until SIGTERM',
    (options) =>
      options
        .positional('file', required('the configuration'))
        .example(
          'dst serve config.json',
          'serve, with the log on standard error: text on a terminal',
        )
        .example('dst serve config.json 2>>dst.log', 'the same with the log, as JSON, in a file')
        .epilogue(
          'Exit codes: 0 after a clean stop, 1 for a failure while running, 2 for wrong usage or ' +
            'configuration, also for an address in use.',
        ),
    ({ file }) => {
      const { config, warnings } = loadConfig(file, 'awaited')
      return runTarget(config, { warnings, reread: () => loadConfig(file, 'unseen').config })
    },
  )
}
