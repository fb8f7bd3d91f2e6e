import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto'
import tls from 'node:tls'
import { StorageError } from '../../base/errors.ts'
import { parseKeys, type Keys } from './keys.ts'
import type { Expiry } from './reread.ts'
import { issuedOf, parseRevocations, type Issued, type Revocations } from './revocations.ts'
import type { CertificateSource, Gathered, TlsFile, TlsSource } from './source.ts'

/** The files of a credential, read and found good: what connections are made with. */
export interface Material {
  readonly context: tls.SecureContext
  /** Null where peers show certificates. */
  readonly keys: Keys | null
  /** The own certificate; null when none is shown. */
  readonly own: X509Certificate | null
  /** What ends first; null when nothing does. */
  readonly expiry: Expiry | null
  readonly revocations: readonly Revocations[]
  /** Fingerprints of the authorities. */
  readonly authorities: ReadonlySet<string>
}

/**
 * TLS 1.3, then ciphers of 1.2 that keep what was sent secret when a key is lost later. The level
 * refuses keys and signatures that are too weak today.
 */
const certificateCiphers = [
  'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305',
  '@SECLEVEL=2',
].join(':')

/** Node ties a key to SHA-256, and OpenSSL has no other of 1.2 that forgets its keys. */
const keyCiphers =
  'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:ECDHE-PSK-CHACHA20-POLY1305:@SECLEVEL=2'

/** SSL_OP_NO_TICKET, SSL_OP_NO_RENEGOTIATION, SSL_OP_CIPHER_SERVER_PREFERENCE of OpenSSL. */
const secureOptions = 0x4000 | 0x4000_0000 | 0x0040_0000

/** Permissions of a file with secrets: neither others may read it, nor a group write to it. */
const modeForbidden = 0o027

const rsaBitsMin = 2048

/** Makes the material of files. Throws CONFIG, with the file and the reason, when it cannot. */
export function materialOf(source: TlsSource, files: Gathered): Material {
  if (source.kind === 'keys') return keyMaterial(source.keys, source.minVersion, files)
  return certificateMaterial(source, files)
}

function keyMaterial(file: TlsFile, minVersion: '1.2' | '1.3', files: Gathered): Material {
  const text = secretOf(file, files)
  const keys = parseKeys(text!)
  if (typeof keys === 'string') throw wrong(file.path, keys)
  const context = tls.createSecureContext({
    minVersion: `TLSv${minVersion}`,
    ciphers: keyCiphers,
    secureOptions,
    // No certificate is taken: with none given, Node would trust the authorities that it knows.
    ca: [],
  })
  return { context, keys, own: null, expiry: null, revocations: [], authorities: new Set() }
}

function certificateMaterial(source: CertificateSource, files: Gathered): Material {
  const { certificate, key, authority, revoked, minVersion } = source
  const chain = certificatesOf(certificate, files)
  const keyText = secretOf(key, files)
  if (chain.text !== null && keyText === null)
    throw wrong(certificate!.path, `its key is missing: ${key?.path ?? 'name it as "key"'}`)
  if (chain.text === null && keyText !== null) throw wrong(key!.path, 'its certificate is missing')
  if (chain.text !== null) checkPair(chain.all[0]!, certificate!, keyText!, key!)
  const trusted = certificatesOf(authority, files)
  const lists = revocationsOf(revoked, files)
  const context = contextOf({
    minVersion: `TLSv${minVersion}`,
    ciphers: certificateCiphers,
    secureOptions,
    ...(chain.text === null ? {} : { cert: chain.text, key: keyText! }),
    ...(trusted.text === null ? {} : { ca: trusted.text }),
    ...(lists.text === null ? {} : { crl: lists.text }),
  })
  const ends: Expiry[] = [...chain.all.map((one) => expiryOf(certificate!, one)), ...lists.ends]
  // Authorities that have run out are no harm as long as another is there.
  const lasting = trusted.all.map((one) => expiryOf(authority!, one))
  if (lasting.length > 0) ends.push(lasting.reduce((a, b) => (b.notAfter > a.notAfter ? b : a)))
  return {
    context,
    keys: null,
    own: chain.all[0] ?? null,
    expiry: ends.length === 0 ? null : ends.reduce((a, b) => (b.notAfter < a.notAfter ? b : a)),
    revocations: lists.all,
    authorities: new Set(trusted.all.map(({ fingerprint256 }) => fingerprint256)),
  }
}

function contextOf(options: tls.SecureContextOptions): tls.SecureContext {
  try {
    return tls.createSecureContext(options)
  } catch (error) {
    throw new StorageError('CONFIG', `TLS: ${reasonOf(error)}`, '', error)
  }
}

/** True when the material has revoked the certificate. */
export function isRevoked({ revocations }: Material, { serial, issuer }: Issued): boolean {
  return revocations.some((list) => list.issuer === issuer && list.serials.has(serial))
}

/** What identifies a certificate for its authority; null when it cannot be read. */
export function issuedBy(certificate: X509Certificate): Issued | null {
  return issuedOf(certificate.raw)
}

/** Reads a file; null when it is not there and need not be. */
function textOf(file: TlsFile | null, files: Gathered): string | null {
  if (file === null) return null
  const found = files.get(file.path) ?? null
  if (typeof found === 'string') throw wrong(file.path, found)
  if (found === null && file.needed) throw wrong(file.path, 'it is not there')
  return found?.text ?? null
}

/** The content of a file with secrets, which others may not read; null where there is none. */
export function secretOf(file: TlsFile | null, files: Gathered): string | null {
  const text = textOf(file, files)
  const found = file === null ? null : files.get(file.path)
  if (found === null || typeof found !== 'object' || (found.mode & modeForbidden) === 0) return text
  const mode = (found.mode & 0o777).toString(8)
  throw wrong(file!.path, `its mode is ${mode}: other users may read or change it; chmod 600`)
}

interface Certificates {
  readonly text: string | null
  readonly all: readonly X509Certificate[]
}

function certificatesOf(file: TlsFile | null, files: Gathered): Certificates {
  const text = textOf(file, files)
  if (text === null) return { text, all: [] }
  const blocks = blocksOf(text, 'CERTIFICATE')
  if (blocks.length === 0) throw wrong(file!.path, 'it has no certificate (PEM)')
  try {
    return { text, all: blocks.map((block) => new X509Certificate(block)) }
  } catch (error) {
    throw wrong(file!.path, `a certificate is damaged (${reasonOf(error)})`)
  }
}

interface Lists {
  readonly text: string[] | null
  readonly all: readonly Revocations[]
  readonly ends: readonly Expiry[]
}

function revocationsOf(file: TlsFile | null, files: Gathered): Lists {
  const text = textOf(file, files)
  if (text === null) return { text, all: [], ends: [] }
  const blocks = blocksOf(text, 'X509 CRL')
  const all = blocks.map((block) => {
    const list = parseRevocations(Buffer.from(block.replace(/-----[^-]*-----/g, ''), 'base64'))
    if (list === null) throw wrong(file!.path, 'a list of revoked certificates is damaged')
    return list
  })
  if (all.length === 0) throw wrong(file!.path, 'it has no list of revoked certificates (PEM)')
  const { path } = file!
  const ends = all.flatMap(({ nextUpdate: notAfter }) =>
    notAfter === null ? [] : [{ path, notAfter }],
  )
  return { text: blocks, all, ends }
}

function blocksOf(text: string, label: string): string[] {
  const pattern = new RegExp(`-----BEGIN ${label}-----[^-]*-----END ${label}-----`, 'g')
  return text.match(pattern) ?? []
}

function checkPair(
  certificate: X509Certificate,
  file: TlsFile,
  keyText: string,
  keyFile: TlsFile,
): void {
  let key: KeyObject
  try {
    key = createPrivateKey(keyText)
  } catch (error) {
    if (keyText.includes('ENCRYPTED'))
      throw wrong(keyFile.path, 'it has a passphrase, and a service has no one to type it')
    throw wrong(keyFile.path, `it is no private key (PEM): ${reasonOf(error)}`)
  }
  if (!certificate.checkPrivateKey(key)) throw wrong(keyFile.path, `not the key of ${file.path}`)
  const { modulusLength: bits } = key.asymmetricKeyDetails ?? {}
  if (bits !== undefined && bits < rsaBitsMin)
    throw wrong(keyFile.path, `an RSA key of ${bits} bits; allowed: ${rsaBitsMin} or more`)
}

function expiryOf({ path }: TlsFile, { validTo }: X509Certificate): Expiry {
  return { path, notAfter: Date.parse(validTo) }
}

/** The error about a file that cannot be used. */
export function wrong(path: string, why: string): StorageError {
  return new StorageError('CONFIG', `${path}: ${why}`)
}

/** The words of an error of OpenSSL, without the numbers before them. */
export function reasonOf(error: unknown): string {
  const { reason, message } = error as Error & { readonly reason?: string }
  return (reason ?? message).replace(/^.*?error:[0-9A-F]+:/i, '').trim()
}
