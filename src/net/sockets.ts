import net from 'node:net'
import { lstatSync, rmSync } from 'node:fs'
import { timerMax } from '../base/clock.ts'
import { StorageError } from '../base/errors.ts'
import { bindPrivately, giveAccess, ownerOnly } from './access.ts'
import { formatAddress, type Address } from './address.ts'
import { problemOf, rewrap, SocketConnection, type Receive } from './connection.ts'
import { remoteAt } from './identity.ts'
import type {
  Accept,
  Connection,
  ConnectionHandler,
  Listener,
  ListenOptions,
  Network,
} from './network.ts'

export type { Receive } from './connection.ts'

/** Milliseconds of silence after which a server that we dialed is asked whether it is there. */
const keepAliveDialedMs = 60_000

/** The least and the most milliseconds that the system takes for that. */
const keepAliveMsMin = 1000
const keepAliveMsMax = 32_767_000

/** Sockets of the operating system: TCP and unix. */
export class SocketNetwork implements Network {
  private readonly receive: Receive

  constructor(receive: Receive = process.env['DST_RECEIVE'] === 'events' ? 'events' : 'landing') {
    this.receive = receive
  }

  connect(
    address: Address,
    timeout: number,
    attach: (connection: Connection) => ConnectionHandler,
    failed: (error: StorageError) => void,
  ): () => void {
    const connection = new SocketConnection(formatAddress(address), address.kind)
    let settled = false
    const settle = (): boolean => {
      if (settled) return false
      settled = true
      clearTimeout(timer)
      return true
    }
    const fail = (error: StorageError): void => {
      if (!settle()) return
      socket.destroy()
      failed(error)
    }
    const patience = Math.min(timeout, timerMax)
    const timer = setTimeout(() => {
      fail(new StorageError('TIMEOUT', `no connection to ${connection.peer} in ${timeout} ms`))
    }, patience)
    const options: net.TcpNetConnectOpts | net.IpcNetConnectOpts = {
      ...(address.kind === 'unix'
        ? { path: address.path }
        : {
            host: address.host,
            port: address.port,
            noDelay: true,
            keepAlive: true,
            keepAliveInitialDelay: keepAliveDialedMs,
          }),
      autoSelectFamilyAttemptTimeout: Math.max(10, Math.floor(patience / 2)),
      ...(this.receive === 'landing' ? { onread: connection.onread } : {}),
    }
    const socket = net.connect(options)
    connection.socket = socket
    connection.dialed = true
    socket.once('error', (error) => {
      fail(problemOf('UNAVAILABLE', `connecting to ${connection.peer}`, error))
    })
    socket.once('connect', () => {
      if (!settle()) return
      if (address.kind === 'tcp') connection.identity = remoteAt(socket.remoteAddress ?? '')
      connection.start(attach(connection), this.receive)
    })
    return () => {
      if (settle()) socket.destroy()
    }
  }

  async listen(
    address: Address,
    accept: Accept,
    { access = ownerOnly, keepAlive = 0 }: ListenOptions = {},
  ): Promise<Listener> {
    const landing = this.receive === 'landing'
    const delay =
      keepAlive === 0 ? 0 : Math.min(keepAliveMsMax, Math.max(keepAliveMsMin, keepAlive))
    const server = net.createServer(
      { pauseOnConnect: landing, noDelay: true, keepAlive: true, keepAliveInitialDelay: delay },
      (accepted) => {
        const connection = new SocketConnection(peerOf(accepted), address.kind)
        if (address.kind === 'tcp') connection.cameFrom(accepted.remoteAddress ?? '')
        connection.descriptor = descriptorOf(accepted)
        connection.socket = landing ? rewrap(accepted, connection) : accepted
        const handler = accept(connection)
        if (handler === null) connection.destroy()
        else connection.start(handler, this.receive)
      },
    )
    if (address.kind === 'unix') await removeStaleSocket(address.path)
    await new Promise<void>((resolve, reject) => {
      // Stays: too many open files while accepting is reported here too, and must not stop us.
      server.on('error', (error) => {
        reject(problemOf('CONFIG', `listening on ${formatAddress(address)}`, error))
      })
      if (address.kind === 'tcp') server.listen(address.port, address.host, resolve)
      // A unix socket is bound before `listen` returns.
      else bindPrivately(() => server.listen(address.path, resolve))
    })
    if (address.kind === 'unix')
      await giveAccess(address.path, access).catch((error: unknown) => {
        server.close()
        throw error
      })
    const bound = server.address()
    return {
      address:
        address.kind === 'tcp' && bound !== null && typeof bound === 'object'
          ? { ...address, port: bound.port }
          : address,
      // The server's own wait for its connections does not see rewrapped sockets end.
      close: () => {
        server.close()
        return Promise.resolve()
      },
    }
  }
}

function descriptorOf(socket: net.Socket): number | undefined {
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: unknown } | null }
  const descriptor = handle?.fd
  return typeof descriptor === 'number' && descriptor >= 0 ? descriptor : undefined
}

/** Names the peer of a socket, for logs and status. */
export function peerOf(socket: net.Socket): string {
  const { remoteAddress: host, remotePort: port } = socket
  return host === undefined || port === undefined
    ? 'a local process'
    : formatAddress({ kind: 'tcp', host, port })
}

/** Removes a unix socket that no process listens on any more; one in use stays. */
export async function removeStaleSocket(path: string): Promise<void> {
  const refused = await new Promise<boolean>((resolve) => {
    const probe = net.connect({ path })
    probe.once('connect', () => {
      probe.destroy()
      resolve(false)
    })
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'))
  })
  // Connecting to an ordinary file is refused too, and that file is not ours.
  if (refused && lstatSync(path).isSocket()) rmSync(path, { force: true })
}
