import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import { isIP, type Socket } from 'node:net'
import { StorageError, systemError, type Code } from '../base/errors.ts'
import { isObject } from '../base/guards.ts'
import { KiB } from '../base/size.ts'
import { silentLog, type Log } from '../base/log.ts'
import { bindPrivately, giveAccess, ownerOnly } from '../net/access.ts'
import { formatAddress, originOf, type Address } from '../net/address.ts'
import { local, proven, remoteAt } from '../net/identity.ts'
import { peerOf, removeStaleSocket } from '../net/sockets.ts'
import { isTooDeep, tooDeep } from '../config/source.ts'
import type { ManagementTls } from '../daemon/credentials.ts'
import { Callers } from './callers.ts'
import { Refusal, type Gate, type Operator, type Peer } from './gate.ts'
import { shakeHands } from './handshake.ts'
import { encodeAnswer, SharedAnswer } from './shared-answer.ts'

/** The part of a target that the management interface uses. */
export interface Manager {
  /** Answers `GET /v1/status`, in plain JSON. */
  status(): unknown
  /**
   * Carries out a command such as `leg.detach`. `names` are from the path, `options` from the body;
   * `peer` is the client's address and, where it is known, its name. Resolves to plain JSON;
   * rejects with a StorageError, CONFIG for a command that cannot be carried out as asked.
   */
  run(
    command: string,
    names: Readonly<Record<string, string>>,
    options: Readonly<Record<string, unknown>>,
    peer: string,
  ): Promise<unknown>
}

/** Bytes of the largest body: the options of a command are few. */
const bodyBytesMax = 64 * KiB
/** Milliseconds from a request's first byte to its last. */
const requestTimeout = 10_000
/** Milliseconds of silence after which TCP checks that a client that waits is still there. */
const keepAliveDelay = 60_000
/** Milliseconds between two checks of the time-outs. */
const checkInterval = 1000
/** Characters of a request's URL, a reason or the name in a certificate that are logged. */
const textShown = 100
const refusedLine = 'a request to the management was refused'
const turnedAway = 'a connection to the management has ended before it was under TLS'

const httpStatus: Partial<Record<Code, number>> = {
  INVALID: 400,
  CONFIG: 409,
  CLAIMED: 409,
  FENCED: 409,
  UNSUPPORTED: 501,
  UNAVAILABLE: 503,
  BUSY: 503,
  SHUTDOWN: 503,
}

/** What a server asks of its clients; without any of it, nothing. */
export interface Entrance {
  /** Absent without TLS. */
  readonly tls?: ManagementTls | undefined
  /** Absent where all may do everything who reach it. */
  readonly gate?: Gate | undefined
  readonly callers?: Callers
}

const everybody: Operator = { name: '', role: 'manage' }

/** Commands that change nothing, and can be asked for by GET. */
export const lookingCommands: ReadonlySet<string> = new Set(['volume.history'])

/** Serves status and commands to operators by HTTP or HTTPS, and JSON. */
export class ManagementServer {
  private readonly manager: Manager
  private readonly server: http.Server
  private readonly log: Log
  private readonly callers: Callers
  private readonly status: SharedAnswer
  private readonly entrance: Entrance
  /** The host that it listens on over TCP; null over a unix socket. */
  private host: string | null = null

  /** Logs refused requests to `log`. */
  constructor(manager: Manager, log = silentLog, entrance: Entrance = {}) {
    this.manager = manager
    this.log = log
    this.entrance = entrance
    this.callers = entrance.callers ?? new Callers()
    this.status = new SharedAnswer(() => manager.status())
    this.server = http.createServer(
      {
        requestTimeout,
        headersTimeout: requestTimeout,
        keepAliveTimeout: requestTimeout,
        connectionsCheckingInterval: checkInterval,
        keepAlive: true,
        keepAliveInitialDelay: keepAliveDelay,
      },
      this.heard,
    )
    // Node would answer other expectations at once, past the limit of one request.
    this.server.on('checkExpectation', this.heard)
    const [talk] = this.server.listeners('connection') as ((socket: Socket) => void)[]
    this.server.removeAllListeners('connection')
    this.server.on('connection', (socket) => this.joined(socket, talk!))
  }

  /** Resolves to the bound address; rejects with a StorageError. `access` is for unix sockets. */
  async listen(address: Address, access = ownerOnly): Promise<Address> {
    const { server } = this
    if (address.kind === 'unix') await removeStaleSocket(address.path)
    else this.host = address.host
    await new Promise<void>((resolve, reject) => {
      server.on('error', (error) => {
        reject(systemError(error, `listening on ${formatAddress(address)}`))
      })
      if (address.kind === 'tcp') server.listen(address.port, address.host, resolve)
      else bindPrivately(() => server.listen(address.path, resolve))
    })
    if (address.kind === 'unix') await giveAccess(address.path, access)
    const bound = server.address()
    return address.kind === 'tcp' && bound !== null && typeof bound === 'object'
      ? { ...address, port: bound.port }
      : address
  }

  close(): void {
    this.server.close()
    this.callers.close()
  }

  /** Takes a connection; `talk` parses the requests of a socket, and answers what is none. */
  private joined(connection: Socket, talk: (this: http.Server, socket: Socket) => void): void {
    const { remoteAddress } = connection
    const peer: Peer = {
      identity: this.host === null ? local : remoteAt(remoteAddress ?? ''),
      text: peerOf(connection),
      origin: this.host === null ? '' : originOf(remoteAddress ?? ''),
      unproven: '',
    }
    const speak = (socket: Socket, peer: Peer): void => {
      talk.call(this.server, socket)
      this.callers.speaks(connection, socket, peer)
    }
    this.callers.joined(connection, peer)
    const { tls } = this.entrance
    if (tls === undefined) {
      speak(connection, peer)
      return
    }
    shakeHands(connection, peer.origin, tls.side, (result) => {
      if (result instanceof StorageError) {
        this.log.info({ peer: peer.text, reason: result.message.slice(0, textShown) }, turnedAway)
        // Later, because this may be called from within TLS.
        setImmediate(() => connection.destroy())
      } else {
        const { socket, proof, unproven = '' } = result
        speak(socket, { ...peer, identity: proven(peer.identity, proof), unproven })
      }
    })
  }

  private readonly heard = (request: IncomingMessage, response: ServerResponse): void => {
    if (this.callers.begin(request, response)) void this.answer(request, response)
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // A client that goes away before its answer must not stop the target.
    response.on('error', () => undefined)
    // Ask now: a request that is given up, such as one that is too long, loses its socket.
    const peer = this.callers.peerOf(request)
    try {
      this.reply(response, 200, await this.carryOut(request, peer))
    } catch (error) {
      if (error instanceof Refusal) {
        this.tellRefused(request, peer, error)
        const { status, message, headers } = error
        this.reply(response, status, encodeAnswer({ error: { message } }), headers)
      } else if (error instanceof StorageError) {
        const { code, message, device } = error
        const answer = encodeAnswer({ error: { code, message, device } })
        this.reply(response, httpStatus[code] ?? 500, answer)
      } else throw error
    }
  }

  private reply(response: ServerResponse, status: number, bytes: Buffer, more: object = {}): void {
    this.callers.answering(response)
    response.writeHead(status, {
      'content-type': 'application/json',
      'content-length': bytes.length,
      // What a target says is for who has asked, and no page, whatever is in it.
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...more,
    })
    response.end(bytes)
  }

  private tellRefused(request: IncomingMessage, { text: peer }: Peer, refusal: Refusal): void {
    const { method, url = '' } = request
    const { status, message: reason } = refusal
    const fields = { peer, method, url: url.slice(0, textShown) }
    this.log.info({ ...fields, status, reason: reason.slice(0, textShown) }, refusedLine)
  }

  private async carryOut(request: IncomingMessage, peer: Peer): Promise<Buffer> {
    const { method, headers } = request
    // Commands come from programs: a page in a browser on this machine must not give any.
    if (isFromPage(headers) || !this.isNamedBy(headers.host))
      throw new Refusal(403, 'not for browsers, nor for a host of this name')
    const operator = this.entrance.gate?.admit(peer, headers.authorization) ?? everybody
    // Before looking at what is asked for: who may not have it learns nothing of it.
    if (operator.role === 'view' && method !== 'GET')
      throw new Refusal(403, `${operator.name || 'you'} may view, and a command needs "manage"`)
    // Not parsed as a URL, because a peer may send something else.
    const [pathname = ''] = (request.url ?? '').split('?', 1)
    const path = pathname.split('/').slice(1).map(decoded)
    if (method === 'GET' && pathname === '/v1/status') return this.status.get()
    const route = commandOf(path)
    if (route === null) throw new Refusal(404, `there is nothing at ${pathname}`)
    const { command, names } = route
    const looks = method === 'GET' && lookingCommands.has(command)
    if (!looks && method !== 'POST') throw new Refusal(405, 'commands are sent by POST')
    // A browser does not send this type for a page without asking us first.
    if (!looks && this.host !== null && !isJson(headers['content-type']))
      throw new Refusal(415, 'the body of a command is application/json')
    const options = looks ? {} : await body(request)
    const name = operator.name.slice(0, textShown)
    const who = name === '' ? peer.text : `${peer.text} (${name})`
    const done = await this.manager.run(command, names, options, who)
    return encodeAnswer(done ?? {})
  }

  /**
   * True if a request is meant for this server. The owner of a domain can let any name of it lead
   * here, and a browser then takes us for a part of that page: it asks without an origin.
   */
  private isNamedBy(host: string | undefined): boolean {
    if (this.host === null || host === undefined) return true
    const name = host.replace(/:\d*$/, '')
    const bare = /^\[(.*)\]$/.exec(name)?.[1] ?? name
    if (isIP(bare) !== 0 || bare === 'localhost' || bare === this.host) return true
    // A page of another domain does not get here: its browser would not take the certificate.
    return this.entrance.tls?.isFor(bare) === true
  }
}

/** True for what a browser sends for a page that is not ours. */
function isFromPage(headers: http.IncomingHttpHeaders): boolean {
  const site = headers['sec-fetch-site']
  return headers.origin !== undefined || (site !== undefined && site !== 'none')
}

/** True for JSON, and without a type, which programs that send a command may leave out. */
function isJson(type: string | undefined): boolean {
  return type === undefined || /^application\/json\b/i.test(type)
}

/**
 * The command of a path such as `/v1/volumes/V/history`, `/v1/volumes/V/legs/L/detach`,
 * `/v1/exports/E/claim/reset` or `/v1/claims/reset`; null for other paths.
 */
function commandOf(
  path: readonly string[],
): { command: string; names: Readonly<Record<string, string>> } | null {
  const [version, volumes, volume, next, leg, verb] = path
  if (path.join('/') === 'v1/claims/reset') return { command: 'claims.reset', names: {} }
  if (version === 'v1' && volumes === 'exports' && path.length === 5 && next === 'claim')
    return { command: `claim.${leg!}`, names: { export: volume! } }
  if (version !== 'v1' || volumes !== 'volumes' || volume === undefined) return null
  if (path.length === 4) return { command: `volume.${next!}`, names: { volume } }
  if (path.length !== 6 || next !== 'legs') return null
  return { command: `leg.${verb!}`, names: { volume, leg: leg! } }
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    throw new Refusal(400, 'the path is not percent-encoded correctly')
  }
}

async function body(request: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  const pieces: Buffer[] = []
  let bytes = 0
  try {
    for await (const piece of request as AsyncIterable<Buffer>) {
      bytes += piece.length
      if (bytes > bodyBytesMax) throw new Refusal(413, `a body has at most ${bodyBytesMax} bytes`)
      pieces.push(piece)
    }
  } catch (error) {
    throw error instanceof Refusal ? error : new Refusal(400, 'the body did not arrive')
  }
  if (bytes === 0) return {}
  let value: unknown
  try {
    value = JSON.parse(Buffer.concat(pieces).toString('utf8'))
  } catch {
    throw new Refusal(400, 'the body is not JSON')
  }
  if (!isObject(value)) throw new Refusal(400, 'the body is not a JSON object')
  // Parsing a deep value works, but writing it to the log recurses for each level.
  if (isTooDeep(value)) throw new Refusal(400, `the body is ${tooDeep}`)
  return value
}
