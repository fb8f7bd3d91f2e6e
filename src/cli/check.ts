import type { Argv } from 'yargs'
import { loadConfig } from '../config/config.ts'
import { lockedFiles } from '../config/locks.ts'
import { printJson, printLine, printWarning } from './print.ts'
import { flag, required } from './options.ts'

/** Adds `dst check`: checks a configuration. */
export function check(yargs: Argv): Argv {
  return yargs.command(
    'check <file>',
    'check a configuration; opens and creates nothing',
    (options) =>
      options
        .positional('file', required('the configuration'))
        .option('print', flag('show it with all defaults filled in'))
        .example('dst check config.json', 'say everything that is wrong with it')
        .example('dst check --print config.json', 'show what is in force')
        .epilogue('Exit codes: 0 it can be served, 2 it cannot.'),
    ({ file, print }) => {
      const { config, shown, warnings } = loadConfig(file)
      for (const warning of warnings) printWarning(warning)
      for (const path of lockedFiles(config))
        printWarning(`${path} is in use by a program that runs: another one cannot serve it now`)
      if (print) printJson(shown)
      else printLine(`${file} is right`)
    },
  )
}
