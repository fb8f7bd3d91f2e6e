import type { X509Certificate } from 'node:crypto'
import type { CertificateProof } from '../identity.ts'

/** What a certificate that was checked says of its owner; null when its names cannot be read. */
export function proofOf(certificate: X509Certificate): CertificateProof | null {
  const names = namesOf(certificate.subjectAltName ?? '')
  if (names === null) return null
  // Not `subject`, which is one text: a name in it could pass for another part.
  const { CN: commonName } = certificate.toLegacyObject().subject as { CN?: unknown }
  const fingerprint = certificate.fingerprint256.replaceAll(':', '').toLowerCase()
  return { names, commonName: typeof commonName === 'string' ? commonName : null, fingerprint }
}

/** A name of a kind; with characters that would be in the way it is a JSON string. */
const entry = /^([A-Za-z0-9 ]+):("(?:[^"\\]|\\.)*"|[^",]*)(?:, |$)/

const hostName = /^[A-Za-z0-9*._-]+$/
const schemed = /^[A-Za-z][A-Za-z0-9+.-]*:/

/**
 * The DNS names, in small letters, and URIs of a subjectAltName as Node writes it; null when it
 * cannot be taken apart. A DNS name that looks like no host is left out, and so is a URI without
 * a scheme.
 */
export function namesOf(text: string): readonly string[] | null {
  const names: string[] = []
  for (let rest = text; rest !== '';) {
    const found = entry.exec(rest)
    if (found === null) return null
    const [all, kind, value = ''] = found
    rest = rest.slice(all.length)
    if (kind !== 'DNS' && kind !== 'URI') continue
    const name = value.startsWith('"') ? unquoted(value) : value
    if (name === null) return null
    // Rules tell the two kinds apart by how they look.
    if (kind === 'DNS' && hostName.test(name)) names.push(name.toLowerCase())
    if (kind === 'URI' && schemed.test(name)) names.push(name)
  }
  return names
}

function unquoted(text: string): string | null {
  try {
    const value = JSON.parse(text) as unknown
    return typeof value === 'string' ? value : null
  } catch {
    return null
  }
}
