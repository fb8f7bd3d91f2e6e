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

/** What the management interface asks of a target. */
export interface Manager {
  /** For `GET /v1/status`: plain JSON. */
  status(): unknown
  /**
   * Carries out a command such as `leg.detach`. Resolves to plain JSON; rejects with a
   * StorageError: CONFIG for what cannot be done as asked. `names` are from the path, `options`
   * from the body; `peer` is who asks.
   */
  run(
    command: string,
    names: Readonly<Record<string, string>>,
    options: Readonly<Record<string, unknown>>,
    peer: string,
  ): Promise<unknown>
}

/** Bytes of a request's body: options of a command are few. */
const bodyBytesMax = 64 * KiB
/** Milliseconds from a request's first byte to its last. */
const requestTimeout = 10_000
/** Milliseconds of silence over TCP after which who waits for an answer is asked if it is there. */
const keepAliveDelay = 60_000
/** Milliseconds between two looks whether that is over. */
const checkInterval = 1000
/** Characters of what a peer asked for, in a line of the log. */
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

/** HTTP and JSON for the commands that speak to a running target. There is no authentication. */
export class ManagementServer {
  private readonly manager: Manager
  private readonly server: http.Server
  private readonly log: Log
  private readonly callers: Callers
  private readonly status: SharedAnswer
  /** The name under which it is reached over TCP; null over a unix socket. */
  private host: string | null = null

  /** `log` is told who is refused; `descriptors` bound how many may be connected. */
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
    // Whatever else one expects is answered by Node at once, for any number of requests.
    this.server.on('checkExpectation', this.heard)
    this.server.on('connection', (socket) => this.callers.joined(socket))
  }

  /** Resolves to where it listens; rejects with a StorageError. `access` is for unix sockets. */
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
    // Whoever goes away before the answer is there must not stop us.
    response.on('error', () => undefined)
    // A request that is given up, such as one that is too long, does not know its socket any more.
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
    // Commands come from programs; a page in a browser on this machine is not to give any.
    const { origin, host } = request.headers
    if (origin !== undefined || !this.isNamedBy(host)) throw new Refusal(403, 'not for browsers')
    // Not read as a URL: not everything that a peer can send is one.
    const [pathname = ''] = (request.url ?? '').split('?', 1)
    const path = pathname.split('/').slice(1).map(decoded)
    if (request.method === 'GET' && pathname === '/v1/status') return this.status.get()
    const route = commandOf(path)
    if (route === null) throw new Refusal(404, `there is nothing at ${pathname}`)
    if (request.method !== 'POST') throw new Refusal(405, 'commands are sent by POST')
    // A form of a page has no such type without being asked first whether it may.
    if (this.host !== null && !isJson(request.headers['content-type']))
      throw new Refusal(415, 'the body of a command is application/json')
    const options = await body(request)
    const { command, names } = route
    const done = await this.manager.run(command, names, options, peer)
    return encodeAnswer(done ?? {})
  }

  /**
   * Whether a request is meant for us. The owner of a domain can have any name of it lead here, and
   * a browser then takes us for a part of that page: it asks without an origin.
   */
  private isNamedBy(host: string | undefined): boolean {
    if (this.host === null || host === undefined) return true
    const name = host.replace(/:\d*$/, '')
    const bare = /^\[(.*)\]$/.exec(name)?.[1] ?? name
    return isIP(bare) !== 0 || bare === 'localhost' || bare === this.host
  }
}

/** Also where nothing is said of it: programs that send a command need not. */
function isJson(type: string | undefined): boolean {
  return type === undefined || /^application\/json\b/i.test(type)
}

/** Something wrong with the HTTP request itself. */
class Refusal extends Error {
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

/**
 * `/v1/volumes/V/history`, `/v1/volumes/V/legs/L/detach`, `/v1/exports/E/claim/reset` and
 * `/v1/claims/reset`.
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
  // Reading it was none, but whoever writes it out, into the log, calls himself for each level.
  if (isTooDeep(value)) throw new Refusal(400, `the body is ${tooDeep}`)
  return value
}
