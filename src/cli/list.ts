import type { Argv } from 'yargs'
import { systemClock } from '../base/clock.ts'
import { describeSize } from '../base/size.ts'
import { Slab } from '../base/slab.ts'
import { formatUri } from '../net/uri.ts'
import { SocketNetwork } from '../net/sockets.ts'
import { listExports as listDst } from '../wire/list.ts'
import { listExports as listNbd } from '../nbd/list.ts'
import { tlsOf, uriOf } from './open.ts'
import { printJson, printLine } from './print.ts'
import { jsonOption, required } from './options.ts'

/** Milliseconds for connecting, and again for the answer. */
const timeout = 10_000

/** An export in a list; only DST/1 has the optional properties. */
interface Listed {
  readonly name: string
  readonly description: string
  readonly size?: number
  readonly readOnly?: boolean
  readonly usable?: boolean
}

/** Adds `dst list`: lists the exports of a server. */
export function list(yargs: Argv): Argv {
  return yargs.command(
    'list <uri>',
    'list the exports of a target or of an NBD server',
    (options) =>
      options
        .positional('uri', required('the server'))
        .option('json', jsonOption)
        .example('dst list dst://10.0.0.2', 'a target, with sizes')
        .example('dst list "nbd+unix:///?socket=/run/nbd.sock" --json', 'an NBD server')
        .epilogue('Exit codes: 0 listed, 1 it does not answer, 2 wrong usage.'),
    async ({ uri: text, json }) => {
      const uri = uriOf(text)
      const world = { network: new SocketNetwork(), clock: systemClock, slab: new Slab() }
      const ask = uri.protocol === 'dst' ? listDst : listNbd
      const exports: readonly Listed[] = await ask(world, uri.address, timeout, tlsOf(uri).tls)
      const all = exports.map((each) => ({ uri: formatUri({ ...uri, name: each.name }), ...each }))
      if (json) printJson(all)
      else for (const each of all) printLine(line(each))
    },
  )
}

function line({ uri, size, readOnly, usable, description }: Listed & { uri: string }): string {
  const words = [
    uri,
    size === undefined || size === 0 ? '' : describeSize(size),
    readOnly === true ? 'read only' : '',
    usable === false ? 'not usable now' : '',
    description,
  ]
  return words.filter((word) => word !== '').join('  ')
}
