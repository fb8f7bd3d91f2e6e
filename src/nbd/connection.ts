import { StorageError } from '../base/errors.ts'
import { callerOf, cutShort, rightsIn, type AuditEvent } from '../export/audit.ts'
import type { Entrance, Export } from '../export/export.ts'
import { Intake } from '../export/intake.ts'
import { rightsHaveChanged } from '../export/rights.ts'
import type { ClientStatus, ServiceContext } from '../export/service.ts'
import { provenName } from '../net/identity.ts'
import type { Connection } from '../net/network.ts'
import { roomOf } from './asking.ts'

/** One client's connection to the NBD server, with what `status` shows of it. */
export class ServerConnection {
  readonly context: ServiceContext
  readonly intake: Intake
  private used: { readonly exported: Export; readonly entrance: Entrance } | null = null
  private readonly left: (connection: ServerConnection) => void
  private readonly since: number
  /** Why it was closed; '' while it was not, or where the client did. */
  private reason = ''
  private isRefused = false

  /** Calls `left` when the connection is gone. */
  constructor(
    context: ServiceContext,
    connection: Connection,
    left: (connection: ServerConnection) => void,
  ) {
    this.context = context
    this.left = left
    this.intake = new Intake(context, connection, roomOf)
    this.since = context.clock.wall()
  }

  /** The export in use; null while it is negotiated. */
  get exportName(): string | null {
    return this.used?.exported.name ?? null
  }

  get status(): ClientStatus {
    const { exportName, intake, since } = this
    const { peer, identity } = intake.connection
    return {
      protocol: 'nbd',
      peer,
      identity: provenName(identity),
      export: exportName,
      connections: 1,
      inFlight: intake.inFlight,
      since,
    }
  }

  /** Closes at once because of what the peer did. */
  fail({ code, message }: StorageError): void {
    const fields = { peer: this.intake.connection.peer, code }
    this.context.log.info(fields, `nbd client dropped: ${message}`)
    this.reason = message
    this.intake.destroy()
  }

  /**
   * Drops the client when for too long it does not read, or does not send what it announced. Called
   * about once a second, with monotonic milliseconds.
   */
  tick(now: number): void {
    const late = this.intake.whyLate(now)
    if (late !== null) this.fail(new StorageError('TIMEOUT', late))
  }

  closed(): void {
    this.noteEnd()
    this.left(this)
  }

  /** The client uses the export, which it sees by this way in. */
  begins(exported: Export, entrance: Entrance): void {
    this.used = { exported, entrance }
    const { name } = exported
    // No client of NBD can claim anything.
    const rights = rightsIn({ ...exported, mayClaim: false })
    this.note({ event: 'connect', export: name, rights })
    this.recheck()
  }

  /** Follows the rules of the export as they are now; ends when they say another thing. */
  recheck(): void {
    const { used, intake, context } = this
    if (used === null || intake.over) return
    const { exported, entrance } = used
    const { name } = exported
    const { identity, peer } = intake.connection
    if (entrance.seenBy(identity).find(name) === exported)
      intake.pacer.follow(entrance.paceOf?.(identity, name) ?? null)
    else {
      this.reason = rightsHaveChanged
      context.log.info({ peer, export: name }, `a client is let go: ${this.reason}`)
      intake.drain()
    }
  }

  /** Notes that the client was refused an export, or the connection where it named none. */
  refused(reason: string, name?: string): void {
    this.isRefused = true
    const asked = name === undefined ? {} : { export: cutShort(name) }
    this.note({ event: 'refuse', ...asked, reason })
  }

  private noteEnd(): void {
    const { exportName, reason } = this
    if (exportName !== null) this.note({ event: 'disconnect', export: exportName, reason })
    else if (reason !== '' && !this.isRefused) this.refused(reason)
  }

  private note(event: AuditEvent): void {
    const { audit } = this.context
    audit?.({ ...callerOf(this.intake.connection), protocol: 'nbd', ...event })
  }
}
