import { BlockList, isIPv4, isIPv6 } from 'node:net'
import type { Identity, Proof } from '../net/identity.ts'

export const rights = ['read', 'write', 'claim', 'list'] as const

/**
 * What a client may do with an export: read it, write to it, claim it as the head of a mirror, and
 * see it in a list of exports.
 */
export type Right = (typeof rights)[number]

/** What a certificate must have. Names are of subjectAltName; a fingerprint is SHA-256, in hex. */
export interface CertificateRule {
  readonly uri?: string
  readonly dns?: string
  readonly commonName?: string
  readonly fingerprint?: string
}

/** Why a client is let go when rules were read again. */
export const rightsHaveChanged = 'its rights have changed'

/** Whom a rule is for. All that is said of the client has to be true. */
export interface Whom {
  /** The identity of a key shared beforehand. */
  readonly psk?: string
  readonly certificate?: CertificateRule
  /** An IP address, or a range of them such as 10.0.0.0/8. */
  readonly address?: string
  /** For clients of unix sockets. */
  readonly unix?: true
}

/** Who may do what. */
export interface Rule extends Whom {
  readonly may: readonly Right[]
}

/** The rules of one export. Null: there are none, and every client has all rights. */
export class Rules {
  private readonly rules: readonly Compiled[] | null

  constructor(rules: readonly Rule[] | null) {
    this.rules = rules?.map(compile) ?? null
  }

  /** Whether clients have different rights. */
  get differ(): boolean {
    return this.rules !== null
  }

  /** The rights of the first rule that is for this client; none when no rule is. */
  of(identity: Identity): readonly Right[] {
    if (this.rules === null) return rights
    return this.rules[this.placeFor(identity)]?.may ?? []
  }

  /** The place of the first rule that is for this client; -1 when none is. */
  placeFor(identity: Identity): number {
    return this.rules?.findIndex(({ isFor }) => isFor(identity)) ?? -1
  }
}

interface Compiled {
  readonly isFor: (identity: Identity) => boolean
  readonly may: readonly Right[]
}

function compile(rule: Rule): Compiled {
  return { isFor: matcherOf(rule), may: rule.may }
}

/** Says of clients whether a rule is for them. */
export function matcherOf(whom: Whom): (identity: Identity) => boolean {
  const { psk, certificate, address, unix } = whom
  const range = address === undefined ? null : parseRange(address)
  return ({ transport, address: from, tls }) =>
    (psk === undefined || (tls !== null && 'psk' in tls && tls.psk === psk)) &&
    (certificate === undefined || hasCertificate(tls, certificate)) &&
    (address === undefined || (range !== null && from !== null && range.has(from))) &&
    (unix === undefined || transport === 'unix')
}

function hasCertificate(tls: Proof | null, wanted: CertificateRule): boolean {
  if (tls === null || 'psk' in tls) return false
  const { uri, dns, commonName, fingerprint } = wanted
  const { names } = tls
  return (
    (uri === undefined || names.includes(uri)) &&
    (dns === undefined || names.some((name) => name.toLowerCase() === dns.toLowerCase())) &&
    (commonName === undefined || tls.commonName === commonName) &&
    (fingerprint === undefined || tls.fingerprint === fingerprint.toLowerCase())
  )
}

/** A range of IP addresses. */
export interface Range {
  has(address: string): boolean
}

const mapped = new BlockList()
mapped.addSubnet('::ffff:0:0', 96, 'ipv6')

/** Reads `10.0.0.7`, `10.0.0.0/8` or `fd00::/8`; null when the text is no range of addresses. */
export function parseRange(text: string): Range | null {
  const [, address = '', length] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text) ?? []
  const family = familyOf(address)
  if (family === null) return null
  const bits = family === 'ipv4' ? 32 : 128
  const prefix = length === undefined ? bits : Number(length)
  // No client has such an address: it counts as the IPv4 address that it stands for.
  if (prefix > bits || (family === 'ipv6' && mapped.check(address, family))) return null
  const list = new BlockList()
  list.addSubnet(address, prefix, family)
  return {
    has: (other) => {
      // The zone of a link-local address, such as %eth0, is of this machine alone.
      const [bare = ''] = other.split('%')
      return familyOf(bare) === family && list.check(bare, family)
    },
  }
}

function familyOf(address: string): 'ipv4' | 'ipv6' | null {
  if (isIPv4(address)) return 'ipv4'
  return isIPv6(address) && !address.includes('%') ? 'ipv6' : null
}
