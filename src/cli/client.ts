import { existsSync } from 'node:fs'
import http from 'node:http'
import { StorageError, systemError, type Code } from '../base/errors.ts'
import { isObject } from '../base/guards.ts'
import { formatAddress, parseAddress, whyNoAddress, type Address } from '../net/address.ts'
import { UsageError } from './exit.ts'

/**
 * Addresses to try when the user names none: that of the example configuration in the present
 * folder, then those of the service in docs/service.md.
 */
const usualPlaces = [
  'unix:data/dst.sock',
  'unix:/run/dst/target/dst.sock',
  'unix:/run/dst/dst.sock',
]

/** The option of every command that speaks to a running target. */
export const managementOption = {
  type: 'string',
  default: process.env['DST_MANAGEMENT'] ?? '',
  defaultDescription: '$DST_MANAGEMENT, then data/dst.sock here, then the socket of the service',
  describe: 'where the running target is managed, as in its configuration',
} as const

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

/** The error when no target answers. */
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
const statusTimeout = 10_000

/** Speaks to the management interface of a running target. */
export class ManagementClient {
  private readonly address: Address

  constructor(text: string) {
    const place = placeOf(text)
    const address = parseAddress(place)
    if (address === null) {
      const why = whyNoAddress(place)
      throw new UsageError(`--management "${place}": ${why}; allowed: unix:PATH, HOST:PORT`)
    }
    this.address = address
  }

  /** Resolves to the status. Rejects with `Unreachable` or the target's StorageError. */
  status(): Promise<unknown> {
    return this.call('GET', '/v1/status', undefined, statusTimeout)
  }

  /** Sends a command, such as `['volumes', 'home', 'legs', 'left', 'detach']`. */
  command(path: readonly string[], options: object = {}): Promise<unknown> {
    return this.call('POST', `/v1/${path.map(encodeURIComponent).join('/')}`, options, 0)
  }

  private call(
    method: string,
    path: string,
    body: object | undefined,
    timeout: number,
  ): Promise<unknown> {
    const { address } = this
    const place =
      address.kind === 'unix'
        ? { socketPath: address.path }
        : { host: address.host, port: address.port }
    return new Promise((resolve, reject) => {
      const failed = (cause: unknown): void => reject(unreachable(address, cause))
      // Not the name that the user gave: because of browsers, a target accepts few others.
      const headers = { connection: 'close', host: 'localhost' }
      const options = { ...place, method, path, timeout, headers }
      const request = http.request(options, (response) => {
        const pieces: Buffer[] = []
        response.on('data', (piece: Buffer) => pieces.push(piece))
        response.on('error', failed)
        response.on('end', () => {
          const text = Buffer.concat(pieces).toString('utf8')
          try {
            resolve(understand(response.statusCode ?? 0, text))
          } catch (error) {
            if (error instanceof StorageError) reject(error)
            else failed('the answer is not that of a target')
          }
        })
      })
      request.on('error', failed)
      request.on('timeout', () => request.destroy(new Error(`no answer in ${timeout} ms`)))
      request.end(body === undefined ? undefined : JSON.stringify(body))
    })
  }
}

function understand(status: number, text: string): unknown {
  const value: unknown = JSON.parse(text)
  if (status === 200) return value
  const error = isObject(value) && isObject(value['error']) ? value['error'] : {}
  const { code = 'INVALID', message = text, device = '' } = error
  // A refused command is no wrong configuration of ours: its exit code is 1.
  const known = code === 'CONFIG' ? 'INVALID' : (code as Code)
  throw new StorageError(known, String(message), String(device))
}
