import { hostname } from 'node:os'
import { join } from 'node:path'
import type { Argv } from 'yargs'
import { parseAddress } from '../net/address.ts'
import { makeAuthority, makePair } from './authority.ts'
import { UsageError } from './exit.ts'
import { required } from './options.ts'
import { printLine } from './print.ts'

const exitCodes = 'Exit codes: 0 made, 1 it could not be, 2 wrong usage, or the files are there.'

/** Days for which a pair is good unless an option says otherwise. */
const pairDays = 365

/** Adds `dst tls`: makes certificates for TLS. */
export function tls(yargs: Argv): Argv {
  return yargs.command(
    'tls <command>',
    'make an authority of your own, and certificates for servers and clients',
    (commands) =>
      [init, server, client]
        .reduce<Argv>((all, define) => define(all), commands)
        .demandCommand(1, 'a command is missing; dst tls --help lists them')
        .example('dst tls init pki', 'an authority, a pair for this host, and one for a client')
        .example('dst tls client pki h1 h1-pki', 'a folder for another client')
        .epilogue(exitCodes),
  )
}

const host = {
  type: 'string',
  array: true,
  describe: 'a name or IP address that clients connect to; several are possible',
} as const

const days = {
  type: 'number',
  default: pairDays,
  describe: 'how long the certificates are good',
} as const

function init(yargs: Argv): Argv {
  return yargs.command(
    'init <dir>',
    'make an authority, and a pair for a server and for a client',
    (options) =>
      options
        .positional('dir', required('a new folder'))
        .option('host', host)
        .option('client', { type: 'string', default: 'client', describe: 'the name of the client' })
        .option('days', days)
        .example('dst tls init pki --host target.example --host 10.0.0.2', 'for that server')
        .example('dst tls init pki --days 30', 'for a month')
        .epilogue(exitCodes),
    async ({ dir, host: given, client: name, days: time }) => {
      const hosts = hostsOf(given)
      checkName(name)
      checkDays(time)
      await makeAuthority(dir, `dst authority of ${hosts[0]!}`)
      const common = { days: time }
      await makePair(dir, dir, { purpose: 'server', name: hosts[0]!, hosts, ...common })
      await makePair(dir, dir, { purpose: 'client', name, hosts: [], ...common })
      printLine(`for the server: ca-cert.pem, server-cert.pem, server-key.pem in ${dir}`)
      printLine(`for the client: ca-cert.pem, client-cert.pem, client-key.pem in ${dir}`)
      printLine(`to be kept elsewhere: ${join(dir, 'ca-key.pem')}, which makes more of them`)
    },
  )
}

function server(yargs: Argv): Argv {
  return yargs.command(
    'server <dir> <out>',
    'make a pair for another server',
    (options) =>
      options
        .positional('dir', required('the authority'))
        .positional('out', required('a folder for the pair'))
        .option('host', host)
        .option('days', days)
        .example('dst tls server pki t2-pki --host t2.example', 'for that host')
        .example('dst tls server pki t2-pki --host 10.0.0.3 --days 90', 'for that address')
        .epilogue(exitCodes),
    async ({ dir, out, host: given, days: time }) => {
      const hosts = hostsOf(given)
      checkDays(time)
      await makePair(dir, out, { purpose: 'server', name: hosts[0]!, hosts, days: time })
      printLine(`ca-cert.pem, server-cert.pem, server-key.pem in ${out}`)
    },
  )
}

function client(yargs: Argv): Argv {
  return yargs.command(
    'client <dir> <name> <out>',
    'make a pair for another client',
    (options) =>
      options
        .positional('dir', required('the authority'))
        .positional('name', required('for rules'))
        .positional('out', required('a folder for the pair'))
        .option('days', days)
        .example(
          'dst tls client pki h1 h1-pki',
          '{ "certificate": { "commonName": "h1" } } in rules',
        )
        .example('dst tls client pki backup b-pki --days 30', 'for a month')
        .epilogue(exitCodes),
    async ({ dir, name, out, days: time }) => {
      checkName(name)
      checkDays(time)
      await makePair(dir, out, { purpose: 'client', name, hosts: [], days: time })
      printLine(`ca-cert.pem, client-cert.pem, client-key.pem in ${out}`)
    },
  )
}

/** The hosts of a server: those that were given, or this one. Throws a UsageError. */
function hostsOf(given: readonly string[] | undefined): readonly string[] {
  if (given === undefined) return [...new Set([hostname(), 'localhost', '127.0.0.1', '::1'])]
  for (const each of given) {
    const address = parseAddress(each.includes(':') ? `[${each}]:1` : `${each}:1`)
    const isPlain = /^[A-Za-z0-9.:*_-]+$/.test(each)
    if (address === null || !isPlain)
      throw new UsageError(`--host ${each}: not the name or the IP address of a host`)
  }
  return given
}

function checkName(name: string): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/.test(name))
    throw new UsageError(`"${name}": a name has letters, digits, ".", "_", "@" and "-", at most 64`)
}

function checkDays(time: number): void {
  if (!Number.isInteger(time) || time < 1 || time > 3650)
    throw new UsageError(`--days ${time}: a whole number from 1 to 3650`)
}
