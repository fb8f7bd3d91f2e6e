import { StorageError } from '../base/errors.ts'
import { digest } from '../device/facts.ts'
import { cutShort, rightsIn, type AuditEvent } from '../export/audit.ts'
import type { Intake } from '../export/intake.ts'
import type { Exports } from '../export/export.ts'
import { rightsHaveChanged } from '../export/rights.ts'
import type { ServiceContext } from '../export/service.ts'
import {
  decodeHello,
  decodePreface,
  encodeWelcome,
  Feature,
  featuresKnown,
  helloBytesMax,
  prefaceBytes,
  Purpose,
  version,
  type Hello,
} from './hello.ts'
import type { SessionConnection } from './session-connection.ts'
import { slotsMax, type Session, type Sessions } from './session.ts'
import { statusOf, statusOk } from './status.ts'

/** Characters of a refusal's reason in a line of the log: clients choose names that are in it. */
const reasonShown = 200

/** What a server tells all its clients alike. */
export interface Announced {
  /** Tells this run of the server from any other. */
  readonly instance: string
  readonly listingOf: (exports: Exports) => Buffer
}

/** What is offered to a client. */
interface Offer {
  readonly sessions: Sessions
  readonly announced: Announced
  /** What the client sees, once it is known who it is. */
  readonly seen: () => Exports
}

/** The connection that a greeter works for. */
interface Greeted extends SessionConnection {
  readonly intake: Intake
  note(event: AuditEvent): void
  index: number
  /** The hello was accepted; requests come now. */
  welcomed(session: Session, index: number, depth: number, features: number): void
}

/** Reads the first message of a client and answers it. */
export class Greeter {
  /** True while the answer waits: for claims, or for requests of an older connection. */
  waiting = false
  private readonly user: Greeted
  private readonly context: ServiceContext
  private readonly offer: Offer
  private attaching: Session | null = null
  /** The export that the client asks for. */
  private asked = ''

  constructor(user: Greeted, context: ServiceContext, offer: Offer) {
    this.user = user
    this.context = context
    this.offer = offer
  }

  /** Reads the hello and answers it, now or later; false when it is not all here yet. */
  greet(): boolean {
    const { inbox } = this.user.intake
    if (!inbox.need(prefaceBytes)) return false
    const preface = decodePreface(inbox.bytes, inbox.at)
    if (typeof preface === 'string' || preface.length > helloBytesMax) {
      this.user.kick('it does not speak DST/1')
      return true
    }
    if (preface.versionMin > version || preface.versionMax < version) {
      this.refuse(new StorageError('UNSUPPORTED', `only version ${version} is spoken here`))
      return true
    }
    const length = prefaceBytes + preface.length
    if (!inbox.need(length)) return false
    const hello = decodeHello(inbox.bytes, inbox.at, inbox.at + length)
    inbox.consume(length)
    if (typeof hello === 'string') this.user.kick(`its hello is wrong: ${hello}`)
    else if (hello.purpose === Purpose.list) this.list()
    else if (hello.purpose === Purpose.attach) this.attach(hello)
    else this.refuse(new StorageError('UNSUPPORTED', `unknown purpose ${hello.purpose}`))
    return true
  }

  /** The connection is gone before it was welcomed. */
  closed(): void {
    if (this.attaching !== null) this.offer.sessions.detach(this.attaching, this.user)
  }

  private list(): void {
    const { announced, seen } = this.offer
    this.user.intake.share(announced.listingOf(seen()))
    this.user.intake.end()
  }

  private attach(hello: Hello): void {
    const target = this.offer.seen().find(hello.name)
    this.asked = hello.name
    if (target === undefined) {
      this.refuse(new StorageError('CONFIG', `there is no export ${JSON.stringify(hello.name)}`))
      return
    }
    this.waiting = true
    this.user.index = hello.index
    const answer = (result: Session | StorageError): void => {
      this.waiting = false
      // A connection that was closed, or told to close, while it waited does not begin a session.
      if (this.user.intake.over) return
      if (result instanceof StorageError) this.refuse(result)
      else this.welcome(hello, result)
      this.user.intake.wake()
    }
    this.offer.sessions.claims.ready((problem) => {
      if (problem !== null) answer(problem)
      else if (!this.user.intake.over)
        this.attaching = this.offer.sessions.attach(hello, target, this.user, answer)
    })
  }

  private welcome(hello: Hello, session: Session): void {
    // Rules may have changed while it waited.
    if (this.offer.seen().find(hello.name) !== session.target) {
      this.refuse(new StorageError('UNAVAILABLE', rightsHaveChanged))
      return
    }
    const facts = session.facts()
    if (facts === null) {
      this.refuse(new StorageError('UNAVAILABLE', 'the device is not known any more'))
      return
    }
    const { requestsPerConnection } = this.context.limits
    const depth = Math.min(Math.max(hello.depth, 1), requestsPerConnection, slotsMax)
    const features = hello.features & featuresKnown
    const instance = instanceOf(this.offer.announced, session)
    const text = (features & Feature.memory) === 0 ? '' : `${session.number}`
    this.user.welcomed(session, hello.index, depth, features)
    this.note(hello, session)
    if (hello.index === 0) {
      const { peer, identity } = this.user
      const who = identity === '' ? {} : { identity }
      const fields = { peer, ...who, export: hello.name, epoch: hello.epoch, claim: hello.claim }
      const how = hello.claim > 0 ? `, claimed with ${hello.claim}` : ''
      this.context.log.info(fields, `a DST/1 client uses an export${how}`)
    }
    const welcome = { status: statusOk, depth, features, instance, facts, text }
    this.user.intake.charge(encodeWelcome(welcome))
    this.user.intake.outbox.flush()
  }

  private note({ name, index, claim }: Hello, { target }: Session): void {
    const { user } = this
    user.note({ event: 'connect', export: name, rights: rightsIn(target), connection: index })
    if (claim > 0) user.note({ event: 'claim', export: name, fence: claim, outcome: 'done' })
  }

  private refuse(error: StorageError): void {
    const { peer } = this.user
    const { code, message } = error
    const asked = this.asked === '' ? {} : { export: cutShort(this.asked) }
    this.user.note({ event: 'refuse', ...asked, code, reason: cutShort(message) })
    const reason = error.message.slice(0, reasonShown)
    this.context.log.info({ peer, code: error.code, reason }, 'a DST/1 client was refused')
    const welcome = {
      status: statusOf(error.code),
      depth: 0,
      features: 0,
      instance: this.offer.announced.instance,
      facts: null,
      text: error.message,
    }
    this.user.intake.charge(encodeWelcome(welcome))
    this.user.intake.end()
  }
}

/**
 * The instance that the client is told. Its second half changes when a target below restarts: that
 * concerns the client as if this target had, but its session is still remembered here.
 */
function instanceOf({ instance }: Announced, { restarts }: Session): string {
  if (restarts === 0) return instance
  const half = instance.length / 2
  return instance.slice(0, half) + digest(`${instance} ${restarts}`).slice(half)
}
