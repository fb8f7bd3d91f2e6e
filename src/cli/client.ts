import { existsSync } from 'node:fs'
import http from 'node:http'
import { StorageError, systemError, type Code } from '../base/errors.ts'
import { asText, isObject } from '../base/guards.ts'
import { formatAddress, type Address } from '../net/address.ts'
import { connectionOf, routeTo, tokenFor, type Route } from './route.ts'

/**
 * Addresses to try when the user names none: that of the example configuration in the present
 * folder, then those of the service in docs/service.md.
 */
const usualPlaces = [
  'unix:data/dst.sock',
  'unix:/run/dst/target/dst.sock',
  'unix:/run/dst/dst.sock',
]

/** The options of every command that speaks to a running target. */
export const managementOptions = {
  management: {
    type: 'string',
    default: process.env['DST_MANAGEMENT'] ?? '',
    defaultDescription: '$DST_MANAGEMENT, then data/dst.sock here, then the socket of the service',
    describe: 'where the running target is managed: unix:PATH, HOST:PORT or https://HOST:PORT',
  },
  'token-file': {
    type: 'string',
    default: process.env['DST_TOKEN_FILE'] ?? '',
    defaultDescription: '$DST_TOKEN_FILE',
    describe: 'a file with the token for it, which dst token makes',
  },
} as const

/** What a command line says of the running target. */
export interface Managed {
  readonly management: string
  readonly tokenFile: string
}

/** The address that was named, or the first usual one that has a socket. */
function placeOf(text: string): string {
  if (text !== '') return text
  const found = usualPlaces.find((place) => existsSync(place.slice('unix:'.length)))
  if (found !== undefined) return found
  const places = usualPlaces.map((place) => place.slice('unix:'.length)).join(', ')
  throw new Unreachable(
    `no target is found at ${places}: name it by --management or DST_MANAGEMENT`,
  )
}

/** The error when no target answers, or none that lets this user in. */
export class Unreachable extends StorageError {
  constructor(message: string, cause?: unknown) {
    super('UNAVAILABLE', message, '', cause)
  }
}

function unreachable(address: Address, cause: unknown): Unreachable {
  const doing = `no target answers at ${formatAddress(address)}`
  return new Unreachable(`${systemError(cause, doing).message} (see --management)`, cause)
}

/** Milliseconds for a target to tell its status; commands may take any time. */
const statusTimeoutMs = 10_000

/** Speaks to the management interface of a running target. */
export class ManagementClient {
  private readonly route: Route
  private readonly token: string

  /** Throws a UsageError for an address or a file that cannot be used. */
  constructor({ management, tokenFile }: Managed) {
    this.route = routeTo(placeOf(management))
    this.token = tokenFor(this.route, tokenFile)
  }

  /** Resolves to the status. Rejects with `Unreachable` or the target's StorageError. */
  status(): Promise<unknown> {
    return this.call('GET', ['status'], undefined, statusTimeoutMs)
  }

  /** Resolves to what changes nothing, such as `['volumes', 'home', 'history']`. */
  look(path: readonly string[]): Promise<unknown> {
    return this.call('GET', path, undefined, 0)
  }

  /** Sends a command, such as `['volumes', 'home', 'legs', 'left', 'detach']`. */
  command(path: readonly string[], options: object = {}): Promise<unknown> {
    return this.call('POST', path, options, 0)
  }

  private async call(
    method: string,
    path: readonly string[],
    body: object | undefined,
    timeout: number,
  ): Promise<unknown> {
    const { route, token } = this
    const failed = (cause: unknown): Unreachable => unreachable(route.address, cause)
    const connection = await connectionOf(route).catch((cause: unknown) => {
      throw failed(cause)
    })
    return new Promise((resolve, reject) => {
      const options = {
        ...connection,
        method,
        path: `/v1/${path.map(encodeURIComponent).join('/')}`,
        timeout,
        headers: {
          connection: 'close',
          // Not the name that the user gave: because of browsers, a target accepts few others.
          host: 'localhost',
          ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
        },
      }
      const request = http.request(options, (response) => {
        const pieces: Buffer[] = []
        response.on('data', (piece: Buffer) => pieces.push(piece))
        response.on('error', (cause) => reject(failed(cause)))
        response.on('end', () => {
          const text = Buffer.concat(pieces).toString('utf8')
          try {
            resolve(understand(response.statusCode ?? 0, text))
          } catch (error) {
            reject(error instanceof StorageError ? error : failed('not the answer of a target'))
          }
        })
      })
      request.on('error', (cause) => reject(failed(cause)))
      request.on('timeout', () => request.destroy(new Error(`no answer in ${timeout} ms`)))
      request.end(body === undefined ? undefined : JSON.stringify(body))
    })
  }
}

/** Codes of HTTP for who is not let in, or may not do this. */
const turnedAway = new Set([401, 403, 429])

function understand(httpStatus: number, text: string): unknown {
  const value: unknown = JSON.parse(text)
  if (httpStatus === 200) return value
  const error = isObject(value) && isObject(value['error']) ? value['error'] : {}
  if (turnedAway.has(httpStatus)) {
    const why = asText(error['message']) || text
    const way = '(see --token-file, --management)'
    throw new Unreachable(`the target refuses (${httpStatus}): ${why} ${way}`)
  }
  const { code = 'INVALID', message = text, device = '' } = error
  // A refused command is no wrong configuration of ours: its exit code is 1.
  const known = code === 'CONFIG' ? 'INVALID' : (code as Code)
  throw new StorageError(known, String(message), String(device))
}
