import { createHash, timingSafeEqual } from 'node:crypto'
import type { Clock } from '../base/clock.ts'
import { secretOf, wrong } from './tls/material.ts'
import { Reread } from './tls/reread.ts'
import type { Gathered, TlsFile } from './tls/source.ts'

export const roles = ['view', 'manage'] as const

/** What an operator may do: look at all there is, or give commands too. */
export type Role = (typeof roles)[number]

/** A token, of which only the hash is known. */
export interface Token {
  readonly name: string
  readonly role: Role
  /** SHA-256 of the token as it is sent. */
  readonly hash: Buffer
}

/** Tokens in a file: each is compared with what a stranger sends. */
const tokensMax = 1000

const lineForm = /^([A-Za-z0-9][A-Za-z0-9._@-]{0,63}):([a-z]+):([0-9a-fA-F]{64})$/

/** Whether a token can have this name. */
export function isTokenName(name: string): boolean {
  return lineForm.test(`${name}:view:${'0'.repeat(64)}`)
}

/** The line of a file of tokens for a token. */
export function lineOfToken(name: string, role: Role, token: string): string {
  return `${name}:${role}:${hashOf(token).toString('hex')}`
}

/**
 * Reads a file of tokens: a line `name:role:hash` for each, with the SHA-256 of the token in hex.
 * Lines that begin with `#` are comments. A file without tokens lets nobody in. Returns a sentence
 * that says why when it cannot be used.
 */
export function parseTokens(text: string): readonly Token[] | string {
  const tokens = new Map<string, Token>()
  const hashes = new Set<string>()
  for (const [at, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue
    // No character of the line is shown: somebody may have written the token itself.
    const [, name, role, hash = ''] = lineForm.exec(line.trim()) ?? []
    if (name === undefined)
      return `line ${at + 1}: it is not name:role:hash, as dst token writes it`
    const known = roles.find((one) => one === role)
    if (known === undefined) return `line ${at + 1}: the role is not one of ${roles.join(', ')}`
    if (tokens.has(name)) return `line ${at + 1}: the name is there already`
    if (tokens.size === tokensMax) return `it has more than ${tokensMax} tokens`
    if (hashes.has(hash.toLowerCase())) return `line ${at + 1}: the token is there already`
    hashes.add(hash.toLowerCase())
    tokens.set(name, { name, role: known, hash: Buffer.from(hash, 'hex') })
  }
  return [...tokens.values()]
}

/** Reads the tokens of a file. Throws CONFIG when it cannot be used. */
export function tokensIn(file: TlsFile, found: Gathered): readonly Token[] {
  const tokens = parseTokens(secretOf(file, found) ?? '')
  if (typeof tokens === 'string') throw wrong(file.path, tokens)
  return tokens
}

/** A file of tokens, as it was read last. */
export class TokenFile extends Reread {
  /** Tokens do not end by themselves. */
  readonly expiry = null
  private readonly file: TlsFile
  private tokens: readonly Token[] = []

  constructor(path: string, clock: Clock) {
    const file = { path, needed: true }
    super([file], clock)
    this.file = file
  }

  /** The token that was sent; null when it is none of the file. The time does not tell which. */
  find(sent: string): Token | null {
    const hash = hashOf(sent)
    let found: Token | null = null
    for (const token of this.tokens) if (timingSafeEqual(token.hash, hash)) found = token
    return found
  }

  protected take(found: Gathered): void {
    this.tokens = tokensIn(this.file, found)
  }
}

function hashOf(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}
