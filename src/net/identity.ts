/**
 * What is known of the peer of a connection; access is granted by it. A value that does not change:
 * a connection that is put under TLS gets another one, and `Connection.identity` is the one in
 * force. So it is read where it is needed, after the negotiation of TLS, and not kept from before.
 */
export interface Identity {
  readonly transport: 'unix' | 'tcp'
  /** The IP address, without port; null over a unix socket. One that IPv6 maps is IPv4. */
  readonly address: string | null
  /** What the peer has proven by TLS; null without TLS. */
  readonly tls: Proof | null
}

/** The proof of a peer: a key that both sides know, or a certificate of a known authority. */
export type Proof = PskProof | CertificateProof

/** A key shared beforehand: the name of the line in the file of keys. */
export interface PskProof {
  readonly psk: string
}

/** A certificate that was checked: signed by the authority, in its time, and not revoked. */
export interface CertificateProof {
  /** The DNS names and URIs of subjectAltName, such as `client.example` and `dst:head/h1`. */
  readonly names: readonly string[]
  /** The CN of the subject; null when it has none, or several. */
  readonly commonName: string | null
  /** SHA-256 of the certificate: 64 small hex digits. */
  readonly fingerprint: string
}

/** The identity of a peer over a unix socket without TLS. */
export const local: Identity = { transport: 'unix', address: null, tls: null }

/** The identity of a peer over TCP without TLS, at an IP address as a socket tells it. */
export function remoteAt(host: string): Identity {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(host)
  return { transport: 'tcp', address: mapped?.[1] ?? host, tls: null }
}

/** The same peer, with what it has proven since by TLS. */
export function proven({ transport, address }: Identity, tls: Proof | null): Identity {
  return { transport, address, tls }
}

/**
 * A text that is equal for two connections exactly if the same peer has proven to be behind both:
 * the same key, or the same name in a certificate, which outlives the renewal of it. Without TLS
 * nothing is proven, and all peers have the same text.
 */
export function provenKey({ tls }: Identity): string {
  if (tls === null) return ''
  if ('psk' in tls) return `psk ${tls.psk}`
  const { names, commonName, fingerprint } = tls
  if (names.length > 0) return `names ${JSON.stringify([...names].sort())}`
  return commonName === null ? `sha256 ${fingerprint}` : `name ${commonName}`
}

/** The peer in a line of the log or a status: `psk:NAME`, `x509:NAME`, or the empty text. */
export function provenName({ tls }: Identity): string {
  if (tls === null) return ''
  if ('psk' in tls) return `psk:${tls.psk}`
  return `x509:${tls.names[0] ?? tls.commonName ?? tls.fingerprint}`
}
