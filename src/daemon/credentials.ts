import type { Clock, Timer } from '../base/clock.ts'
import { StorageError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type * as config from '../config/config.types.ts'
import { tlsModeOf, tlsSourceOf } from '../config/credentials.ts'
import type { EntranceTls } from '../export/export.ts'
import { Credential } from '../net/tls/credential.ts'
import type { Reread } from '../net/tls/reread.ts'
import { ServerTls, type Asked } from '../net/tls/server.ts'
import { dstProtocol } from '../net/tls/side.ts'
import { Turns } from '../net/tls/turns.ts'
import type { TlsRole, TlsSource } from '../net/tls/source.ts'
import { TokenFile } from '../net/tokens.ts'

/** Milliseconds between two looks at the files of credentials: a look is a stat of each. */
const lookIntervalMs = 5000

const dayMs = 24 * 3600 * 1000
/** Milliseconds before the end of a certificate from which it is told. */
const warnMs = 14 * dayMs

/** A credential in use, or a file of tokens, as `status` shows it. */
export interface CredentialStatus {
  readonly name: string
  readonly role: TlsRole | 'tokens'
  /** Why its files cannot be used as they are now; '' when they can. */
  readonly problem: string
  /** Wall clock, milliseconds: when what is in force was read; null when nothing is. */
  readonly readAt: number | null
  /** Wall clock, milliseconds: what ends first; null when nothing does. */
  readonly notAfter: number | null
  /** A sentence about what an operator has to do; '' when there is nothing. */
  readonly warning: string
}

/** The TLS of a management. */
export interface ManagementTls {
  readonly side: ServerTls
  /** Whether the certificate in force is for this name of a host. */
  readonly isFor: (host: string) => boolean
}

type ListenerTls = Pick<config.Listener, 'protocol' | 'tls' | 'credentials'>

interface Used<Kind extends Reread = Reread> {
  /** In the configuration; of tokens, the path. */
  readonly name: string
  readonly role: CredentialStatus['role']
  readonly credential: Kind
  /** What was last logged as wrong with its files. */
  told: string
}

/** The credentials of a target: those that are named, and those of URIs. */
export class Credentials {
  private readonly clock: Clock
  private readonly log: Log
  private readonly named: Readonly<Record<string, config.Credential>>
  /** Shared by all listeners. */
  private readonly turns: Turns
  private readonly used = new Map<string, Used<Credential>>()
  private readonly tokenFiles = new Map<string, Used<TokenFile>>()
  private timer: Timer | null = null
  private looking: Promise<void> | null = null

  constructor({ credentials, limits }: config.Config, clock: Clock, log: Log) {
    this.named = credentials
    this.clock = clock
    this.log = log
    this.turns = new Turns(clock, limits.handshakesPerSecond)
  }

  /** The credential of a name that was checked; its files are read when it is first asked for. */
  of(name: string, role: TlsRole): Credential {
    return this.use(name, role, tlsSourceOf(this.named[name]!, role))
  }

  /** The TLS of a listener; nothing where it is off. Throws CONFIG without good files. */
  entranceTls(listener: ListenerTls): { readonly tls?: EntranceTls } {
    const mode = tlsModeOf(listener)
    if (mode === 'off') return {}
    const credential = this.of(listener.credentials!, 'server')
    if (credential.problem !== '') throw new StorageError('CONFIG', credential.problem)
    const protocol = listener.protocol === 'dst' ? dstProtocol : null
    const side = new ServerTls(credential, protocol, this.turns)
    return { tls: { mode, side } }
  }

  /** The TLS of a management. Throws CONFIG without good files. */
  managementTls(name: string, asked: Asked): ManagementTls {
    const credential = this.of(name, 'server')
    if (credential.problem !== '') throw new StorageError('CONFIG', credential.problem)
    return {
      side: new ServerTls(credential, null, this.turns, asked),
      isFor: (host) => hostForm.test(host) && isOwn(credential, host),
    }
  }

  /** The tokens in a file. Throws CONFIG when it is not good. */
  tokensIn(path: string): TokenFile {
    const known = this.tokenFiles.get(path)
    if (known !== undefined) return known.credential
    const credential = new TokenFile(path, this.clock)
    credential.read()
    if (credential.problem !== '') throw new StorageError('CONFIG', credential.problem)
    this.tokenFiles.set(path, { name: path, role: 'tokens', credential, told: '' })
    return credential
  }

  /** The credential of a client whose files a URI names; `name` is for people. */
  ofUri(name: string, source: TlsSource): Credential {
    // A leg may have taken the place of another one, which led elsewhere.
    for (const [key, used] of this.used)
      if (
        used.name === name &&
        used.credential.source !== source &&
        !Object.hasOwn(this.named, name)
      )
        this.used.delete(key)
    return this.use(name, 'client', source)
  }

  /** Looks at the files now and then. */
  start(): void {
    this.timer = this.clock.timer(lookIntervalMs, () => {
      void this.look().then(() => {
        if (this.timer !== null) this.start()
      })
    })
  }

  stop(): void {
    this.timer?.cancel()
    this.timer = null
  }

  /** Reads what has changed. Resolves when it is in force; never rejects. */
  look(): Promise<void> {
    this.looking ??= this.lookAtAll().finally(() => (this.looking = null))
    return this.looking
  }

  get status(): readonly CredentialStatus[] {
    return this.all.map((used) => ({
      name: used.name,
      role: used.role,
      problem: used.credential.problem,
      readAt: used.credential.readAt === 0 ? null : used.credential.readAt,
      notAfter: used.credential.expiry?.notAfter ?? null,
      warning: this.warningOf(used),
    }))
  }

  private get all(): readonly Used[] {
    return [...this.used.values(), ...this.tokenFiles.values()]
  }

  private use(name: string, role: TlsRole, source: TlsSource): Credential {
    const key = `${role} ${name}`
    const known = this.used.get(key)
    if (known !== undefined) return known.credential
    const credential = new Credential(source, this.clock)
    credential.read()
    const used = { name, role, credential, told: '' }
    this.used.set(key, used)
    this.tell(used)
    return credential
  }

  private async lookAtAll(): Promise<void> {
    for (const used of this.all) {
      const found = await used.credential.look()
      if (found === 'read') this.log.info(fields(used), 'the files of a credential were read')
      if (found !== 'same') this.tell(used)
    }
  }

  /** Logs what is wrong, once for each reason. */
  private tell(used: Used): void {
    const warning = this.warningOf(used)
    if (warning !== '' && warning !== used.told) this.log.warn(fields(used), warning)
    used.told = warning
  }

  private warningOf({ name, role, credential }: Used): string {
    const { problem, readAt, expiry } = credential
    if (problem !== '') {
      const kept = readAt === 0 ? 'no TLS with them' : 'what was read before stays in force'
      return `${role === 'tokens' ? role : `credentials ${name}`}: ${problem}; ${kept}`
    }
    const left = expiry === null ? Infinity : expiry.notAfter - this.clock.wall()
    if (expiry === null || left > warnMs) return ''
    const days = Math.floor(left / dayMs)
    const when = left <= 0 ? 'has ended' : days === 0 ? 'ends today' : `ends in ${days} days`
    return `credentials ${name}: ${expiry.path} ${when}`
  }
}

/** A name of a host: for some other texts OpenSSL throws. */
const hostForm = /^[A-Za-z0-9._-]{1,253}$/

function isOwn({ inForce: { own } }: Credential, host: string): boolean {
  return own?.checkHost(host) !== undefined
}

function fields({ name, role }: Used) {
  return { credentials: name, role }
}
