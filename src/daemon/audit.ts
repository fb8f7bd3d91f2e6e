import bunyan from 'bunyan'
import type { Clock } from '../base/clock.ts'
import { endsWithin } from '../base/deadline.ts'
import type { Log, LogFields } from '../base/log.ts'
import type { Audit, AuditKind } from '../export/audit.ts'
import { originOf } from '../net/address.ts'
import type * as config from '../config/config.types.ts'
import { accessOf } from '../config/quantities.ts'
import { AuditFile } from './audit-file.ts'
import { QuietLog } from './quiet.ts'

/** Events of one kind that one peer causes: many in a short time are told by their number. */
const ofPeer = { linesMax: 20, timeMs: 10_000, timeMsMax: 600_000 }
/** Events of one kind that all peers cause: strangers may have any number of addresses. */
const ofKind = { linesMax: 100, timeMs: 10_000 }
/** Refusals, of which strangers cause as many as they like: fewer while that goes on. */
const ofRefusals = { linesMax: 100, timeMs: 60_000, timeMsMax: 600_000 }
/** Commands: who may give them could do worse than fill a disk, but not by mistake. */
const ofCommands = { linesMax: 1000, timeMs: 10_000 }
/** Peers of a kind that are told apart; those beyond count as one. */
const peersMax = 500

/** Characters of a text in a line: no name is longer. */
const textMax = 2048

/** Milliseconds for the last lines, when the target stops. */
const closeTimeout = 1000

const sentences: Readonly<Record<AuditKind, string>> = {
  start: 'the target has started',
  stop: 'the target stops',
  connect: 'a client uses an export',
  disconnect: 'a client has left an export',
  refuse: 'access was refused',
  claim: 'a claim of a device',
  fence: 'a head was outbid',
  rules: 'the rules of exports were read again',
  command: 'an operator gave a command',
  commandEnd: 'a command of an operator has ended',
}

/** The log of who did what and who was refused it, in a file of its own. */
export class AuditLog {
  private readonly file: AuditFile
  private readonly path: string
  private readonly clock: Clock
  private readonly log: Log
  private readonly lines: bunyan
  private readonly kinds = new Map<AuditKind, Kind>()

  /** Problems of the file itself go to `log`. */
  constructor({ path, mode }: config.Audit, clock: Clock, log: Log) {
    this.path = path
    this.clock = clock
    this.log = log
    this.file = new AuditFile(path, accessOf({ mode }).mode, clock, this)
    const write = (record: object): void => this.file.write(lineOf(record))
    const streams: bunyan.Stream[] = [{ type: 'raw', stream: { write } }]
    this.lines = bunyan.createLogger({ name: 'dst-audit', streams })
  }

  readonly note: Audit = ({ event, ...fields }) => {
    const kind = this.kinds.get(event) ?? new Kind(event, this.sink, this.clock)
    this.kinds.set(event, kind)
    kind.pass({ event, time: new Date(this.clock.wall()), ...fields })
  }

  /** Opens the file, which may have been moved. Resolves when that was tried; never rejects. */
  look(): Promise<void> {
    return this.file.look()
  }

  /** Writes the last lines, if that can be done in a second. */
  async close(): Promise<void> {
    for (const kind of this.kinds.values()) kind.flush()
    await endsWithin(this.clock, this.file.close(), closeTimeout)
  }

  /** A sentence about what an operator has to do; '' when there is nothing. */
  get warning(): string {
    const { problem } = this.file
    return problem === '' ? '' : `the audit log is not written: ${problem}`
  }

  /** @internal */
  changed(problem: string, lost: number): void {
    if (problem !== '') this.log.error({ path: this.path, reason: problem }, this.warning)
    else if (lost > 0) {
      const what = `${lost} lines of the audit log were lost`
      this.log.warn({ path: this.path, lost }, `${what}; now it is written`)
      this.lines.warn({ lost }, what)
    } else this.log.info({ path: this.path }, 'the audit log is written')
  }

  private readonly sink: Sink = (fields, message) => this.lines.info(fields, message)
}

type Sink = (fields: LogFields, message: string) => void

/** Bounds the events of one kind. */
class Kind {
  private readonly message: string
  private readonly clock: Clock
  private readonly isOfCommands: boolean
  private readonly all: QuietLog
  private readonly peers = new Map<string, QuietLog>()
  /** Monotonic, milliseconds: when it was last looked which peers can be forgotten. */
  private lookedAt = 0

  constructor(event: AuditKind, sink: Sink, clock: Clock) {
    this.message = sentences[event]
    this.clock = clock
    this.isOfCommands = event === 'command' || event === 'commandEnd'
    const log = { debug: sink, info: sink, warn: sink, error: sink }
    const others = event === 'refuse' ? ofRefusals : ofKind
    this.all = new QuietLog(log, clock, this.isOfCommands ? ofCommands : others)
  }

  pass(fields: LogFields): void {
    const { peer } = fields
    const log = typeof peer !== 'string' || this.isOfCommands ? this.all : this.ofPeer(peer)
    log.info(fields, this.message)
  }

  /** Tells what is told by its number now. */
  flush(): void {
    for (const log of this.peers.values()) log.flush()
    this.all.flush()
  }

  private ofPeer(peer: string): QuietLog {
    const origin = originOf(peer.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1'))
    const known = this.peers.get(origin)
    if (known !== undefined) return known
    this.forget()
    const key = this.peers.size < peersMax ? origin : ''
    const made = this.peers.get(key) ?? new QuietLog(this.all, this.clock, ofPeer)
    this.peers.set(key, made)
    return made
  }

  private forget(): void {
    const now = this.clock.now()
    if (this.peers.size < peersMax || now - this.lookedAt < ofPeer.timeMs) return
    this.lookedAt = now
    for (const [name, log] of this.peers) if (log.isIdle) this.peers.delete(name)
  }
}

/**
 * A record as a line of JSON, with all that is not plain ASCII escaped: names come from peers, and
 * must not move the cursor of who reads them.
 */
function lineOf(record: object): string {
  const text = JSON.stringify(record, (_, value: unknown) => {
    return typeof value === 'string' ? value.slice(0, textMax) : value
  })
  const plain = text.replace(/[^ -~]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  })
  return `${plain}\n`
}

/** The same log, whose lines about refused peers are events as well. */
export function alsoNoted(log: Log, audit: Audit | undefined): Log {
  if (audit === undefined) return log
  const both =
    (level: keyof Log) =>
    (fields: LogFields, message: string): void => {
      log[level](fields, message)
      audit({ event: 'refuse', reason: message, ...fields })
    }
  return { debug: both('debug'), info: both('info'), warn: both('warn'), error: both('error') }
}
