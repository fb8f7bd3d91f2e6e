import { nameBytesMax, parseAddress, formatAddress, type Address } from './address.ts'

export type Protocol = 'dst' | 'nbd'

export const defaultPorts: Readonly<Record<Protocol, number>> = { dst: 4470, nbd: 10809 }

/**
 * The part of TLS in a URI, named as libnbd names it. There is no way back to a connection without
 * TLS for such a URI.
 */
export interface UriTls {
  /** tls-certificates: a folder with ca-cert.pem and perhaps client-cert.pem, client-key.pem. */
  readonly certificates: string | null
  /** tls-psk-file: a file of keys. */
  readonly psk: string | null
  /** tls-username, or the user before the host: the identity in that file. */
  readonly user: string | null
  /** tls-hostname: the name that the server's certificate has to be for; null: the host. */
  readonly hostname: string | null
  /** tls-verify-peer: false takes any certificate of a server. */
  readonly verifyPeer: boolean
}

/** TLS of which a URI says nothing but that it has to be. */
export const bareTls: UriTls = {
  certificates: null,
  psk: null,
  user: null,
  hostname: null,
  verifyPeer: true,
}

/** An export at an address: `dst://host:port/export` or `nbds+unix:///export?socket=PATH`. */
export interface ExportUri {
  readonly protocol: Protocol
  readonly address: Address
  readonly name: string
  /** Null without TLS. */
  readonly tls: UriTls | null
}

/** Half of a surrogate pair, which UTF-8 cannot encode. */
export const halfCharacter = /\p{Surrogate}/u

/**
 * Reads a URI of NBD's `doc/uri.md`, or the same for DST/1. The export's name is the path without
 * its first slash, percent-decoded. Returns a sentence that says why when it cannot be used.
 */
export function parseUri(text: string): ExportUri | string {
  const found = /^([a-z]+)(\+unix)?:\/\/([^/?#]*)(\/[^?#]*)?(?:\?([^#]*))?$/.exec(text)
  if (found === null || halfCharacter.test(text)) return 'not a URI such as dst://host:4470/name'
  const [, scheme = '', unix, authority = '', path = '', query = ''] = found
  const sealed = scheme === 'dsts' || scheme === 'nbds'
  const protocol = sealed ? scheme.slice(0, -1) : scheme
  if (protocol !== 'dst' && protocol !== 'nbd') return `unknown scheme ${scheme}`
  const name = decode(path.slice(1))
  if (name === null) return 'the name of the export is not percent-encoded correctly'
  const nameBytes = Buffer.byteLength(name)
  if (nameBytes > nameBytesMax)
    return `the name of the export has ${nameBytes} bytes, at most ${nameBytesMax} are possible`
  const parameters = new URLSearchParams(query.replaceAll('+', '%2B'))
  const wrong = whyNotParameters(parameters, sealed ? 'TLS' : 'clear')
  if (wrong !== null) return wrong
  const [, user, host = ''] = /^(?:([^@]*)@)?(.*)$/s.exec(authority)!
  const tls = sealed ? tlsOf(parameters, user) : null
  if (typeof tls === 'string') return tls
  const socket = parameters.get('socket')
  if (unix !== undefined) {
    if (socket === null || socket === '') return 'a +unix URI needs ?socket=PATH'
    if (host !== '') return 'a +unix URI has no host'
    return { protocol, address: { kind: 'unix', path: socket }, name, tls }
  }
  if (socket !== null) return `?socket= belongs to ${scheme}+unix://`
  const address = parseAddress(host, defaultPorts[protocol])
  if (address?.kind !== 'tcp' || address.port === 0) return `not a host and port: ${authority}`
  return { protocol, address, name, tls }
}

/** A server that is reached by HTTP over TLS. */
export interface HttpsUri {
  readonly address: Address
  readonly tls: UriTls
}

/**
 * Reads `https://host:port`, with the parameters of TLS that are for certificates. Returns a
 * sentence that says why when it cannot be used.
 */
export function parseHttps(text: string): HttpsUri | string {
  const found = /^https:\/\/([^/?#]*)\/?(?:\?([^#]*))?$/.exec(text)
  if (found === null) return 'not a URL such as https://host:4480, without a path'
  const [, host = '', query = ''] = found
  const parameters = new URLSearchParams(query.replaceAll('+', '%2B'))
  const wrong = whyNotParameters(parameters, 'TLS')
  if (wrong !== null) return wrong
  const unfit = ['socket', 'tls-psk-file', 'tls-username'].find((name) => parameters.has(name))
  if (unfit !== undefined) return `${unfit} is not for https, which goes by certificates`
  const tls = tlsOf(parameters, undefined)
  if (typeof tls === 'string') return tls
  const address = parseAddress(host)
  if (address?.kind !== 'tcp' || address.port === 0) return `not a host and port: ${host}`
  return { address, tls }
}

const tlsParameters = [
  'tls-certificates',
  'tls-psk-file',
  'tls-username',
  'tls-hostname',
  'tls-verify-peer',
] as const

/** Why the parameters cannot be used; null when they can. */
function whyNotParameters(given: URLSearchParams, way: 'TLS' | 'clear'): string | null {
  for (const key of new Set(given.keys())) {
    const isTls = (tlsParameters as readonly string[]).includes(key)
    if (!isTls && key !== 'socket')
      return `unknown parameter ${key}; known are socket and ${tlsParameters.join(', ')}`
    if (isTls && way === 'clear') return `${key} is for TLS: dsts:// or nbds://`
    if (given.getAll(key).length > 1) return `${key} is given twice`
    if (isTls && given.get(key) === '') return `${key} has no value`
  }
  return null
}

/** What a URI says of TLS, or a sentence that says why it cannot be. */
function tlsOf(given: URLSearchParams, userInfo: string | undefined): UriTls | string {
  const verify = given.get('tls-verify-peer') ?? '1'
  const verifyPeer = /^(1|true|on|yes)$/i.test(verify)
  if (!verifyPeer && !/^(0|false|off|no)$/i.test(verify))
    return `tls-verify-peer is ${verify}; allowed: 1 or 0`
  const [before, named] = [decode(userInfo ?? ''), given.get('tls-username')]
  if (before === null) return 'the user is not percent-encoded correctly'
  if (before !== '' && named !== null && before !== named)
    return 'the user before the host and tls-username differ'
  const [certificates, psk] = [given.get('tls-certificates'), given.get('tls-psk-file')]
  if (certificates !== null && psk !== null)
    return 'tls-certificates and tls-psk-file are two kinds of proof: choose one'
  const hostname = given.get('tls-hostname')
  return { certificates, psk, user: named ?? (before === '' ? null : before), hostname, verifyPeer }
}

function decode(text: string): string | null {
  try {
    return decodeURIComponent(text)
  } catch {
    return null
  }
}

/** Writes a URI as `parseUri` reads it. */
export function formatUri({ protocol, address, name, tls }: ExportUri): string {
  const scheme = tls === null ? protocol : `${protocol}s`
  const parameters: [string, string | null][] = []
  if (address.kind === 'unix') parameters.push(['socket', address.path])
  if (tls !== null)
    parameters.push(
      ['tls-certificates', tls.certificates],
      ['tls-psk-file', tls.psk],
      ['tls-username', tls.user],
      ['tls-hostname', tls.hostname],
      ['tls-verify-peer', tls.verifyPeer ? null : '0'],
    )
  const query = parameters.flatMap(([key, value]) =>
    value === null ? [] : [`${key}=${encoded(value)}`],
  )
  const where =
    address.kind === 'unix' ? `${scheme}+unix://` : `${scheme}://${formatAddress(address)}`
  return `${where}/${encoded(name)}${query.length === 0 ? '' : `?${query.join('&')}`}`
}

/** Percent-encodes everything but slashes, which people want to see. */
function encoded(text: string): string {
  return encodeURIComponent(text).replaceAll('%2F', '/')
}

/** The same URI with other paths of the files that it names: its socket, certificates and keys. */
export function withPaths(uri: ExportUri, by: (path: string) => string): ExportUri {
  const { address, tls } = uri
  const moved = (path: string | null): string | null => (path === null ? null : by(path))
  return {
    ...uri,
    address: address.kind === 'unix' ? { kind: 'unix', path: by(address.path) } : address,
    tls:
      tls === null ? null : { ...tls, certificates: moved(tls.certificates), psk: moved(tls.psk) },
  }
}

/** The paths of the files that a URI names. */
export function pathsOf({ address, tls }: ExportUri): readonly string[] {
  const socket = address.kind === 'unix' ? address.path : null
  return [socket, tls?.certificates, tls?.psk].filter((path) => typeof path === 'string')
}
