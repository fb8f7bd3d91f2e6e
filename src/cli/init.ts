import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Argv } from 'yargs'
import { StorageError } from '../base/errors.ts'
import { printLine } from './print.ts'
import { required, sizeOf } from './options.ts'

/** Adds `dst init`: writes a first configuration. */
export function init(yargs: Argv): Argv {
  return yargs.command(
    'init <dir>',
    'write a first configuration, of a mirror of two files',
    (options) =>
      options
        .positional('dir', required('the folder for it'))
        .option('size', { type: 'string', default: '1G', describe: 'size of each file' })
        .option('address', {
          type: 'string',
          default: '127.0.0.1',
          describe: 'where clients connect; 0.0.0.0 for all of this machine',
        })
        .example('dst init storage && dst serve storage/config.json', 'the first volume')
        .example('dst init storage --size 64G', 'a larger one')
        .epilogue('Nothing is overwritten. Exit codes: 0 written, 1 it was there, 2 wrong usage.'),
    ({ dir, size, address }) => write(dir, size, address),
  )
}

function write(dir: string, size: string, address: string): void {
  sizeOf('--size', size)
  const path = join(dir, 'config.json')
  mkdirSync(dir, { recursive: true })
  try {
    writeFileSync(path, textOf(JSON.stringify(size), address), { flag: 'wx' })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EEXIST') throw error
    throw new StorageError('IO', `${path} is there already, and is left as it is`)
  }
  printLine(`wrote ${path}; next: dst serve ${path}`)
}

function textOf(size: string, address: string): string {
  const at = (port: number): string => JSON.stringify(`${address}:${port}`)
  return `{
  // Where clients connect: NBD for all kinds of clients, DST/1 for other targets.
  "listeners": [
    { "protocol": "nbd", "address": ${at(10809)} },
    { "protocol": "dst", "address": ${at(4470)} },
  ],
  // Where commands such as dst status find the target, in the folder of this file.
  "management": { "address": "unix:data/dst.sock" },
  "devices": {
    // The same bytes on both legs. Put the second file on another disk.
    "home": {
      "type": "mirror",
      "legs": {
        "left": { "type": "file", "path": "left.img", "size": ${size}, "create": true },
        "right": { "type": "file", "path": "right.img", "size": ${size}, "create": true },
      },
      // Compares both once a week.
      "verify": { "every": "168h", "speed": "50M" },
    },
  },
  // What clients ask for by name.
  "exports": { "home": { "device": "home" } },
}
`
}
