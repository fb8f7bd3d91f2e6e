import { StorageError } from '../../base/errors.ts'
import type { ExportUri, UriTls } from '../uri.ts'
import { ClientTls } from './client.ts'
import type { Credential } from './credential.ts'
import { dstProtocol } from './side.ts'
import { certificateFiles, type TlsSource } from './source.ts'

/** The files that a URI names for TLS. With neither folder nor keys: the authorities of Node. */
export function sourceOfUri({ protocol, tls }: ExportUri): TlsSource {
  const { psk, user, certificates } = sealed(tls)
  // Servers of other makes may be older.
  const minVersion = protocol === 'nbd' ? '1.2' : '1.3'
  if (psk !== null) return { kind: 'keys', keys: { path: psk, needed: true }, user, minVersion }
  const places = certificates === null ? {} : { certificates }
  return certificateFiles(places, 'client', minVersion)
}

/** The side of a client that connects to a URI with these certificates or keys. */
export function clientTls(uri: ExportUri, credential: Credential): ClientTls {
  const { protocol, address, tls } = uri
  const { hostname, verifyPeer } = sealed(tls)
  // Whoever may make the socket's file is trusted with the name.
  const host = hostname ?? (address.kind === 'tcp' ? address.host : null)
  const name = protocol === 'dst' ? dstProtocol : null
  return new ClientTls(credential, { host, verifyPeer, protocol: name })
}

function sealed(tls: UriTls | null): UriTls {
  if (tls === null) throw new StorageError('CONFIG', 'the URI has no TLS')
  return tls
}
