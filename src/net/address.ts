import { isIPv4, isIPv6 } from 'node:net'
import { KiB } from '../base/size.ts'

/** The most bytes that the name of an export may have, as in NBD. */
export const nameBytesMax = 4 * KiB

/** Where a server listens: a host and port, or the path of a unix socket. */
export type Address =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }

/**
 * Reads `127.0.0.1:4470`, `[::1]:4470`, `host:4470` or `unix:/run/dst.sock`; null when the text is
 * no address. A port may be left out only if there is a `defaultPort`.
 */
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
 * True for the name of a host and for an IPv4 address. False for a number alone, which the system
 * takes for an address and people for a port, for what programs would take for an option, and for
 * `unix`, which begins a path once a port stands behind it.
 */
function isHost(text: string): boolean {
  if (/^[\d.]+$/.test(text)) return isIPv4(text)
  if (socketName.test(text) || text === 'unix') return false
  return /^[\p{L}\p{N}_][\p{L}\p{M}\p{N}_.-]*$/u.test(text)
}

/** How the names of socket files end, and those of hosts do not. */
const socketName = /\.sock(et)?$/i

/** A sentence for people: why a text is no address, and how to write one. */
export function whyNoAddress(text: string): string {
  if (/^:?\d+$/.test(text)) {
    const port = text.replace(':', '')
    return `only a port: 127.0.0.1:${port} is for this machine, 0.0.0.0:${port} for all`
  }
  if (/^\[?\*/.test(text)) return '"*" is no host: 0.0.0.0, or [::], stands for all addresses'
  if (text === 'unix') return 'the path is missing, as in unix:data/x.sock'
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
  if (/^[\d.]+$/.test(host) && !isIPv4(host)) return `no address: "${host}" is not an IPv4 address`
  if (port === undefined && parseAddress(text, 1) !== null)
    return `the port is missing, as in ${text}:4470`
  return 'no address'
}

/** Writes an address as `parseAddress` reads it. */
export function formatAddress(address: Address): string {
  if (address.kind === 'unix') return `unix:${address.path}`
  const { host, port } = address
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/**
 * What an address counts as when peers are told apart: in IPv4 itself, in IPv6 its network of 64
 * bits, because a host that has one address of that network has all of them.
 */
export function originOf(host: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(host)
  if (mapped !== null) return mapped[1]!
  // All link-local addresses are of the same network.
  if (!host.includes(':') || /^fe80:/i.test(host)) return host
  const [head = '', tail] = host.split('::')
  const groups = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  while (tail !== undefined && groups.length + after.length < 8) groups.push('0')
  return `${[...groups, ...after].slice(0, 4).join(':')}::/64`
}
