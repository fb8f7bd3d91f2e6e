import type { Clock } from '../base/clock.ts'
import { matcherOf } from '../export/rights.ts'
import { provenName, type Identity } from '../net/identity.ts'
import type { Role, TokenFile } from '../net/tokens.ts'
import type * as config from '../config/config.types.ts'
import { Attempts } from './attempts.ts'

/** A fault of an HTTP request itself. */
export class Refusal extends Error {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>

  constructor(status: number, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message)
    this.status = status
    this.headers = headers
  }
}

/** The other end of a connection. */
export interface Peer {
  readonly identity: Identity
  /** The IP address and port, or what stands for a unix socket. */
  readonly text: string
  /** What it counts as when peers are told apart. */
  readonly origin: string
  /** Why it has proven nothing by TLS; '' where that is not asked. */
  readonly unproven: string
}

/** Who sends a request, and what that one may do. */
export interface Operator {
  /** `token:NAME`, `x509:NAME`, or the empty text. */
  readonly name: string
  readonly role: Role
}

const unknown =
  'you are not known here: send a token (Authorization: Bearer), or have a certificate or an ' +
  'address that the rules of the management name'

/** Decides who may manage a target: by the token of a request, or by what is known of its peer. */
export class Gate {
  private readonly rules: readonly {
    readonly isFor: (identity: Identity) => boolean
    readonly role: Role
  }[]
  private readonly tokens: TokenFile | null
  private readonly attempts: Attempts

  constructor(rules: readonly config.ManagementRule[], tokens: TokenFile | null, clock: Clock) {
    this.rules = rules.map((rule) => ({ isFor: matcherOf(rule), role: rule.role }))
    this.tokens = tokens
    this.attempts = new Attempts(clock)
  }

  /** Says who it is. Throws a Refusal when nobody knows. A token that was sent counts alone. */
  admit(peer: Peer, authorization: string | undefined): Operator {
    if (authorization !== undefined) return this.byToken(peer, authorization)
    const { identity, unproven } = peer
    const rule = this.rules.find(({ isFor }) => isFor(identity))
    if (rule !== undefined) return { name: provenName(identity), role: rule.role }
    throw nobody(unproven === '' ? unknown : `${unknown} (${unproven})`)
  }

  private byToken({ origin }: Peer, authorization: string): Operator {
    const wait = this.attempts.wait(origin)
    if (wait > 0) {
      const headers = { connection: 'close', 'retry-after': String(wait) }
      const what = `too many wrong tokens: none of this address is looked at for ${wait} s`
      throw new Refusal(429, what, headers)
    }
    const [, sent] = /^Bearer +(\S+) *$/i.exec(authorization) ?? []
    const token = sent === undefined ? null : (this.tokens?.find(sent) ?? null)
    if (token !== null) return { name: `token:${token.name}`, role: token.role }
    this.attempts.failed(origin)
    throw nobody(sent === undefined ? unknown : 'the token is not one that is known here')
  }
}

function nobody(message: string): Refusal {
  return new Refusal(401, message, { connection: 'close', 'www-authenticate': 'Bearer' })
}
