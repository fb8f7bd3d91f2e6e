import { isIPv4, isIPv6 } from 'node:net'
import { KiB } from '../base/size.ts'

/** Bytes of an export's name, as NBD has it. */
export const nameBytesMax = 4 * KiB

/** Where somebody listens: a host and port, or a path of a unix socket. */
export type Address =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }

/** `127.0.0.1:4470`, `[::1]:4470`, `host:4470`, `unix:/run/dst.sock`; null when it is none. */
export function parseAddress(text: string, defaultPort?: number): Address | null {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length)
    return path === '' ? null : { kind: 'unix', path }
  }
  const found = /^(?:\[([0-9a-fA-F:.%\w]+)\]|([^:[\]/\s]+))(?::(\d{1,5}))?$/.exec(text)
  if (found === null) return null
  const [, inBrackets, bare] = found
  if (inBrackets === undefined ? !isHost(bare!) : !isIPv6(inBrackets)) return null
  const port = found[3] === undefined ? defaultPort : Number(found[3])
  if (port === undefined || port > 65535) return null
  return { kind: 'tcp', host: (inBrackets ?? bare)!, port }
}

/**
 * A name of a host, or an IPv4 address. Not a number alone, which the system takes for an address
 * and people for a port, nor what programs would take for an option.
 */
function isHost(text: string): boolean {
  if (/^[\d.]+$/.test(text)) return isIPv4(text)
  if (socketName.test(text)) return false
  return /^[\p{L}\p{N}_][\p{L}\p{M}\p{N}_.-]*$/u.test(text)
}

/** What files of sockets are called, and hosts are not. */
const socketName = /\.sock(et)?$/i

/** Why a text is no address, and what would be one. */
export function whyNoAddress(text: string): string {
  if (/^:?\d+$/.test(text)) {
    const port = text.replace(':', '')
    return `only a port: 127.0.0.1:${port} is for this machine, 0.0.0.0:${port} for all`
  }
  if (/^\[?\*/.test(text)) return '"*" is no host: 0.0.0.0, or [::], stands for all addresses'
  const scheme = /^(?:\w+:\/\/|tcp:|unix:|nbd:|dst:)/i.exec(text)?.[0]
  const rest = text.slice(scheme?.length ?? 0)
  if (/^unix:/i.test(text))
    return rest === '' ? 'the path is missing, as in unix:data/x.sock' : `unix: is written small`
  if (scheme !== undefined) return `without "${scheme}", as in ${rest.replace(/\/.*$/, '')}`
  if (socketName.test(text) || text.includes('/'))
    return `a socket's path begins with unix:, as in unix:${text}`
  if (isIPv6(text) || isIPv6(text.replace(/:\d+$/, '')))
    return 'an IPv6 address stands in brackets, as in [::1]:4470'
  if (text.startsWith('-')) return 'the name of a host does not begin with "-"'
  const [, host = '', port] = /^(.*?)(?::([^:]*))?$/.exec(text) ?? []
  if (Number(port) > 65535) return 'no address: a port is at most 65535'
  if (port !== undefined && !/^\d+$/.test(port))
    return `no address: "${port}" is no port, which is a number`
  if (/^[\d.]+$/.test(host) && !isIPv4(host)) return `no address: "${host}" is none of IPv4`
  if (port === undefined && parseAddress(text, 1) !== null)
    return `the port is missing, as in ${text}:4470`
  return 'no address'
}

export function formatAddress(address: Address): string {
  if (address.kind === 'unix') return `unix:${address.path}`
  const { host, port } = address
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/**
 * What counts as one peer among those that connect from different addresses: an address of IPv4;
 * of IPv6 the network of 64 bits, because whoever has one address of it has all of them.
 */
export function originOf(host: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(host)
  if (mapped !== null) return mapped[1]!
  // On a link of its own everybody has the same network.
  if (!host.includes(':') || /^fe80:/i.test(host)) return host
  const [head = '', tail] = host.split('::')
  const groups = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  while (tail !== undefined && groups.length + after.length < 8) groups.push('0')
  return `${[...groups, ...after].slice(0, 4).join(':')}::/64`
}

export type Protocol = 'dst' | 'nbd'

export const defaultPorts: Readonly<Record<Protocol, number>> = { dst: 4470, nbd: 10809 }

/** An export at an address, as `dst://host:port/export` or `nbd+unix:///export?socket=PATH` say. */
export interface ExportUri {
  readonly protocol: Protocol
  readonly address: Address
  readonly name: string
}

/** What no text in UTF-8 can have. */
export const halfCharacter = /\p{Surrogate}/u

/**
 * Reads the URIs of NBD's `doc/uri.md` and the same for DST/1. The export's name is the path less
 * one slash, percent-decoded. Returns what is wrong as text instead when it cannot be used.
 */
export function parseUri(text: string): ExportUri | string {
  const found = /^([a-z]+)(\+unix)?:\/\/([^/?#]*)(\/[^?#]*)?(?:\?([^#]*))?$/.exec(text)
  if (found === null || halfCharacter.test(text)) return 'not a URI such as dst://host:4470/name'
  const [, protocol, unix, authority = '', path = '', query = ''] = found
  if (protocol === 'nbds') return 'TLS (nbds) is not supported'
  if (protocol !== 'dst' && protocol !== 'nbd') return `unknown scheme ${protocol ?? ''}`
  let name: string
  try {
    name = decodeURIComponent(path.slice(1))
  } catch {
    return 'the name of the export is not percent-encoded correctly'
  }
  const nameBytes = Buffer.byteLength(name)
  if (nameBytes > nameBytesMax)
    return `the name of the export has ${nameBytes} bytes, at most ${nameBytesMax} are possible`
  const parameters = new URLSearchParams(query.replaceAll('+', '%2B'))
  for (const key of parameters.keys())
    if (key !== 'socket') return `unknown parameter ${key}; only socket is known`
  const socket = parameters.get('socket')
  if (unix !== undefined) {
    if (socket === null || socket === '') return 'a +unix URI needs ?socket=PATH'
    if (authority !== '') return 'a +unix URI has no host'
    return { protocol, address: { kind: 'unix', path: socket }, name }
  }
  if (socket !== null) return `?socket= belongs to ${protocol}+unix://`
  const address = parseAddress(authority.replace(/^[^@]*@/, ''), defaultPorts[protocol])
  if (address?.kind !== 'tcp' || address.port === 0) return `not a host and port: ${authority}`
  return { protocol, address, name }
}

export function formatUri(uri: ExportUri): string {
  const name = encoded(uri.name)
  if (uri.address.kind === 'unix')
    return `${uri.protocol}+unix:///${name}?socket=${encoded(uri.address.path)}`
  return `${uri.protocol}://${formatAddress(uri.address)}/${name}`
}

/** Percent-encoded, but for the slashes that people want to see. */
function encoded(text: string): string {
  return encodeURIComponent(text).replaceAll('%2F', '/')
}
