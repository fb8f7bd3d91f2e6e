import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import { isIP } from 'node:net'
import { StorageError, systemError, type Code } from '../base/errors.ts'
import { isObject } from '../base/guards.ts'
import { KiB } from '../base/size.ts'
import { silentLog, type Log } from '../base/log.ts'
import { bindPrivately, giveAccess, ownerOnly } from '../net/access.ts'
import { formatAddress, type Address } from '../net/address.ts'
import type { Descriptors } from '../net/descriptors.ts'
import { peerOf, removeStaleSocket } from '../net/sockets.ts'
import { isTooDeep, tooDeep } from '../config/source.ts'
import { Callers } from './callers.ts'
import { encodeAnswer, SharedAnswer } from './shared-answer.ts'

/** The part of a target that the management interface uses. */
export interface Manager {
  /** Answers `GET /v1/status`, in plain JSON. */
  status(): unknown
  /**
   * Carries out a command such as `leg.detach`. `names` are from the path, `options` from the body;
   * `peer` is the client's address. Resolves to plain JSON; rejects with a StorageError, CONFIG for
   * a command that cannot be carried out as asked.
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
/** Characters of a request's URL that are logged. */
const urlShown = 100
const refusedLine = 'a request to the management was refused'

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

/** Serves status and commands to operators by HTTP and JSON. There is no authentication. */
export class ManagementServer {
  private readonly manager: Manager
  private readonly server: http.Server
  private readonly log: Log
  private readonly callers: Callers
  private readonly status: SharedAnswer
  /** The host that it listens on over TCP; null over a unix socket. */
  private host: string | null = null

  /** Logs refused requests to `log`; `descriptors` bounds the connections. */
  constructor(manager: Manager, log = silentLog, descriptors: Descriptors | null = null) {
    this.manager = manager
    this.log = log
    this.callers = new Callers(descriptors)
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
    this.server.on('connection', (socket) => this.callers.joined(socket))
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
    this.server.closeAllConnections()
  }

  private readonly heard = (request: IncomingMessage, response: ServerResponse): void => {
    if (this.callers.begin(request, response)) void this.answer(request, response)
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // A client that goes away before its answer must not stop the target.
    response.on('error', () => undefined)
    // Ask now: a request that is given up, such as one that is too long, loses its socket.
    const peer = peerOf(request.socket)
    try {
      this.reply(response, 200, await this.carryOut(request, peer))
    } catch (error) {
      if (error instanceof Refusal) {
        this.tellRefused(request, peer, error)
        this.reply(response, error.status, encodeAnswer({ error: { message: error.message } }))
      } else if (error instanceof StorageError) {
        const { code, message, device } = error
        const answer = encodeAnswer({ error: { code, message, device } })
        this.reply(response, httpStatus[code] ?? 500, answer)
      } else throw error
    }
  }

  private reply(response: ServerResponse, status: number, bytes: Buffer): void {
    this.callers.answering(response)
    const { length } = bytes
    response.writeHead(status, { 'content-type': 'application/json', 'content-length': length })
    response.end(bytes)
  }

  private tellRefused(request: IncomingMessage, peer: string, refusal: Refusal): void {
    const { method, url = '' } = request
    const { status, message: reason } = refusal
    const fields = { peer, method, url: url.slice(0, urlShown) }
    this.log.info({ ...fields, status, reason: reason.slice(0, urlShown) }, refusedLine)
  }

  private async carryOut(request: IncomingMessage, peer: string): Promise<Buffer> {
    // Commands come from programs: a page in a browser on this machine must not give any.
    const { origin, host } = request.headers
    if (origin !== undefined || !this.isNamedBy(host)) throw new Refusal(403, 'not for browsers')
    // Not parsed as a URL, because a peer may send something else.
    const [pathname = ''] = (request.url ?? '').split('?', 1)
    const path = pathname.split('/').slice(1).map(decoded)
    if (request.method === 'GET' && pathname === '/v1/status') return this.status.get()
    const route = commandOf(path)
    if (route === null) throw new Refusal(404, `there is nothing at ${pathname}`)
    if (request.method !== 'POST') throw new Refusal(405, 'commands are sent by POST')
    // A browser does not send this type for a page without asking us first.
    if (this.host !== null && !isJson(request.headers['content-type']))
      throw new Refusal(415, 'the body of a command is application/json')
    const options = await body(request)
    const { command, names } = route
    const done = await this.manager.run(command, names, options, peer)
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
    return isIP(bare) !== 0 || bare === 'localhost' || bare === this.host
  }
}

/** True for JSON, and without a type, which programs that send a command may leave out. */
function isJson(type: string | undefined): boolean {
  return type === undefined || /^application\/json\b/i.test(type)
}

/** A fault of the HTTP request itself. */
class Refusal extends Error {
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
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
