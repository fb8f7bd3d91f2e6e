import type { ArgumentsCamelCase, Argv, InferredOptionTypes } from 'yargs'
import { StorageError } from '../base/errors.ts'
import { defined } from '../base/guards.ts'
import type { Log } from '../base/log.ts'
import { checkConfig } from '../config/config.ts'
import type { Target } from '../daemon/target.ts'
import { uriOf } from './open.ts'
import { runTarget } from './run.ts'
import { flag, optional, required } from './options.ts'

/** The options of `dst bridge`. */
const bridgeOptions = {
  listen: {
    type: 'string',
    array: true,
    demandOption: true,
    describe: 'where NBD clients connect: unix:PATH or HOST:PORT; several are possible',
  },
  name: optional('a name for the export here; the name at the remote if absent'),
  hold: optional('how long requests wait while the remote is away, such as 5m'),
  connections: { type: 'number', describe: 'connections to the remote' },
  checksums: { type: 'boolean', describe: 'check payloads on the way (DST/1)' },
  'read-only': flag('refuse writes'),
  mode: optional('mode of a unix socket, such as 0660'),
  owner: optional('owner of a unix socket'),
  group: optional('group of a unix socket, such as kvm'),
  management: optional('where status finds the bridge'),
  'log-level': { type: 'string', default: 'info', describe: 'as in a configuration' },
} as const

/** Adds `dst bridge`: serves a remote export to this machine's NBD clients. */
export function bridge(yargs: Argv): Argv {
  return yargs.command(
    'bridge <uri>',
    'serve an export of a target (or NBD server) to local NBD clients, until SIGTERM',
    (options) =>
      options
        .positional('uri', required('the remote export'))
        .options(bridgeOptions)
        .example('dst bridge dst://10.0.0.2/home --listen unix:/run/home.sock', 'for this machine')
        .example('dst bridge dst://10.0.0.2/home --listen 127.0.0.1:10809 --hold 5m', 'over TCP')
        .epilogue(
          'Exit codes: as for serve; 1 also for a host that has no address, and for an ' +
            'export that its server does not have.',
        ),
    (options) => {
      const { config } = checkConfig(configOf(options), process.cwd(), 'command line')
      return runTarget(config, { mustServe: mustBeReachable })
    },
  )
}

/**
 * Reasons that are a mistake of the user: the server has no such export, or the name server does
 * not know the host. A name server that does not answer yet, as when the machine starts, is none.
 */
const mistakes = /\b(no (such )?export|getaddrinfo ENOTFOUND)\b/

/** Throws for a mistake of the user. A server that is away may come back: that is only logged. */
function mustBeReachable({ tree }: Target, log: Log): void {
  for (const { state, path } of tree.roots) {
    if (state.word !== 'opening') continue
    if (mistakes.test(state.reason)) throw new StorageError('UNAVAILABLE', state.reason, path)
    log.warn({}, `not there yet, and tried again; clients are refused until then: ${state.reason}`)
  }
}

/** The options as they are given, and the URI of the remote export. */
type BridgeOptions = ArgumentsCamelCase<InferredOptionTypes<typeof bridgeOptions>> & {
  readonly uri: string
}

/** The configuration of a target with one device, the remote, and one export of it. */
function configOf(options: BridgeOptions): object {
  const { uri, listen, hold, connections, checksums, readOnly, management, logLevel } = options
  const { mode, owner, group } = options
  const remote = uriOf(uri)
  const type = remote.protocol === 'dst' ? 'remote' : 'nbd'
  return {
    listeners: listen.map((address) => ({
      protocol: 'nbd',
      address,
      ...(address.startsWith('unix:') ? defined({ mode, owner, group }) : {}),
    })),
    ...(management === undefined ? {} : { management: { address: management } }),
    devices: { remote: { type, ...defined({ uri, hold, connections, checksums }) } },
    exports: { [options.name ?? remote.name]: { device: 'remote', readOnly } },
    log: { level: logLevel },
  }
}
