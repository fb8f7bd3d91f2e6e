import { isObject } from '../base/guards.ts'
import { KiB, MiB } from '../base/size.ts'
import { parseAddress, whyNoAddress, type Address } from '../net/address.ts'
import { defaultPorts, halfCharacter, parseUri } from '../net/uri.ts'
import { sizeOf } from './quantities.ts'
import { managementPlaces } from './management.ts'
import { step, type Problem } from './source.ts'
import { elements, entries, type Loose } from './tree.ts'

/** Bytes of the path of a unix socket, without its final zero, on Linux. */
const socketPathBytesMax = 107

/** Says why a device cannot use the URI; null when it can. */
export function checkUri(text: string, protocol: 'dst' | 'nbd'): string | null {
  const uri = parseUri(text)
  if (typeof uri === 'string') return uri
  if (uri.protocol === protocol) return unusable(uri.address)
  return protocol === 'dst'
    ? `a remote needs ${protocol}://; for an NBD server use type nbd`
    : `an nbd device needs ${protocol}://; for another target use type remote`
}

/** The highest number of a user or group of Linux. */
const idMax = 2 ** 32 - 2

interface Listening {
  readonly address: Address
  readonly pointer: string
}

/** Checks that the addresses of listeners and management are valid and different. */
export function checkAddresses(config: Loose, problems: Problem[]): void {
  const seen: Listening[] = []
  const check = (value: unknown, pointer: string, defaultPort?: number): void => {
    if (!isObject(value) || typeof value['address'] !== 'string') return
    const place = step(pointer, 'address')
    const address = parseAddress(value['address'], defaultPort)
    const wrong = address === null ? whyNoAddress(value['address']) : unusable(address)
    if (wrong !== null || address === null) {
      const what = `found "${value['address']}": ${wrong ?? ''}; allowed: ${allowed(defaultPort)}`
      problems.push({ what, pointer: place })
      return
    }
    checkRights(value, address, pointer, problems)
    const other = seen.find((each) => overlap(each.address, address))
    if (other !== undefined)
      problems.push({
        what: `"${value['address']}" is used twice, also at ${other.pointer}`,
        pointer: place,
      })
    seen.push({ address, pointer: place })
  }
  for (const { value, pointer } of elements(config['listeners'], '/listeners')) {
    const protocol = isObject(value) && value['protocol'] === 'dst' ? 'dst' : 'nbd'
    check(value, pointer, defaultPorts[protocol])
  }
  for (const { value, pointer } of managementPlaces(config)) check(value, pointer)
}

/** Checks rights and owners: only a unix socket has them. */
function checkRights(value: Loose, address: Address, pointer: string, problems: Problem[]): void {
  for (const account of ['owner', 'group'])
    if (typeof value[account] === 'string' && isNoNumber(value[account])) {
      const what = `found "${value[account]}": the highest number of a user or group is ${idMax}`
      problems.push({ what, pointer: step(pointer, account) })
    }
  if (address.kind === 'unix') return
  for (const right of ['mode', 'owner', 'group'])
    if (value[right] !== undefined) {
      const what = `"${right}" is for unix sockets: anybody can connect to a TCP address`
      problems.push({ what, pointer: step(pointer, right) })
    }
}

/** True for a number above the highest user: chown(2) would change nothing. */
function isNoNumber(account: string): boolean {
  return /^\d+$/.test(account) && Number(account) > idMax
}

function allowed(defaultPort?: number): string {
  const port = defaultPort === undefined ? ':PORT' : `:PORT (default ${defaultPort})`
  return `HOST${port}, [IPV6]:PORT, unix:PATH`
}

function unusable(address: Address): string | null {
  if (address.kind !== 'unix') return null
  // The kernel's own names for sockets without a file begin with one.
  if (address.path.includes('\0')) return 'a path has no NUL'
  if (halfCharacter.test(address.path)) return 'a path has no half characters'
  const bytes = Buffer.byteLength(address.path)
  return bytes <= socketPathBytesMax
    ? null
    : `a socket's path of ${bytes} bytes, at most ${socketPathBytesMax} are possible`
}

/** True if the two cannot be listened on at once. */
function overlap(a: Address, b: Address): boolean {
  if (a.kind === 'unix' || b.kind === 'unix')
    return a.kind === 'unix' && b.kind === 'unix' && a.path === b.path
  if (a.port === 0 || a.port !== b.port) return false
  return a.host === b.host || [a, b].some(({ host }) => host === '0.0.0.0' || host === '::')
}

/** Checks that the limits fit one another. */
export function checkLimits(limits: unknown, problems: Problem[]): void {
  const sizes = new Map(
    entries(limits, '/limits').map(({ label, value }) => [label, sizeOf(value)]),
  )
  const payload = sizes.get('payload') ?? null
  if (payload === null) return
  if (payload < 64 * KiB || payload > 32 * MiB)
    problems.push({ what: 'a payload is from 64K to 32M', pointer: '/limits/payload' })
  for (const name of ['bytesPerConnection', 'bytesInFlight']) {
    const bytes = sizes.get(name) ?? null
    if (bytes !== null && bytes < payload)
      problems.push({ what: 'less than one payload (limits.payload)', pointer: `/limits/${name}` })
  }
}
