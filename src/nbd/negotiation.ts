import type { Timer } from '../base/clock.ts'
import { assert, StorageError } from '../base/errors.ts'
import { KiB, roundDown } from '../base/size.ts'
import type { Facts } from '../device/device.ts'
import type { Entrance, Export, Exports } from '../export/export.ts'
import type { Phase } from '../export/intake.ts'
import { provenName } from '../net/identity.ts'
import { stringBytesMax } from './codec.ts'
import type { ServerConnection } from './connection.ts'
import * as options from './options.ts'
import { Info, Option, Reply, TransmissionFlag } from './options.ts'
import { Transmission } from './transmission.ts'

/** Bytes of an option's data: two strings and their lengths fit; longer options are refused. */
const optionBytesMax = 2 * stringBytesMax + 64

/**
 * Bytes of replies that a client may leave unread before we stop reading from it. They count like
 * all that is kept for clients, but a negotiation waits for no room: a client that comes late is
 * not to be turned away because others hold much.
 */
const unreadBytesMax = 4 * KiB

/**
 * Bytes of the longest request of clients that do not ask for block sizes: that of the Linux kernel
 * as nbd-client sets it up. With less it would learn of the limit by errors.
 */
const unaskedBytesMax = 128 * KiB

const optionsWithoutData = new Set<number>([Option.list, Option.startTls, Option.structuredReply])

/** Characters of a name that a client asked for, in a line of the log. */
const nameShown = 100

/** What all connections by one way in have in common. */
interface Offer {
  /** Bytes of the longest payload a client may send or ask for. */
  readonly payloadMax: number
  readonly entrance: Entrance
  readonly listingOf: (exports: Exports) => Buffer
}

/** A client that waits for its export's device to become usable. */
interface Waiting {
  readonly option: number
  readonly exported: Export
  readonly infos: readonly number[]
}

/**
 * The server's side of the handshake: fixed newstyle. Every option is answered, unknown ones too,
 * until one of them starts the transmission. All of it has to be done within the handshake timeout,
 * the wait for a device that is not usable yet included.
 */
export class Negotiation implements Phase {
  private readonly host: ServerConnection
  private readonly offer: Offer
  private readonly timer: Timer
  private flagsTaken = false
  private zeroes = true
  private structured = false
  /** The export for which the client selected the allocation context. */
  private allocationOf: Export | null = null
  private waiting: Waiting | null = null
  private congested = false
  /** The way to TLS: `begun` until the handshake is done. */
  private tls: 'none' | 'begun' | 'done' = 'none'
  /** The option whose data are too long and have yet to be taken in. */
  private tooLong: number | null = null
  private over = false

  constructor(host: ServerConnection, offer: Offer) {
    this.host = host
    this.offer = offer
    const { clock, limits } = host.context
    this.timer = clock.timer(limits.handshakeTimeout, () => this.expire())
    this.send(options.encodeGreeting())
    host.intake.send()
  }

  get waits(): boolean {
    return this.waiting !== null || this.congested || this.tls === 'begun'
  }

  sent(): void {
    if (this.host.intake.outbox.bytesQueued === 0) this.congested = false
  }

  closed(reason: StorageError | null): void {
    if (reason !== null && this.tls === 'begun') this.tellUnproven(reason)
    this.finish()
    this.host.closed()
  }

  arrived(): void {
    assert(false, 'nothing is written before the transmission')
  }

  step(): boolean {
    const { outbox } = this.host.intake
    const goesOn = this.takeOption()
    this.congested = !this.over && outbox.bytesQueued >= unreadBytesMax
    return goesOn
  }

  private takeOption(): boolean {
    const { inbox } = this.host.intake
    if (!this.flagsTaken) {
      if (!inbox.need(options.clientFlagsBytes)) return false
      const flags = inbox.bytes.readUInt32BE(inbox.at)
      inbox.consume(options.clientFlagsBytes)
      const { fixedNewstyle, noZeroes } = options.HandshakeFlag
      if ((flags & ~(fixedNewstyle | noZeroes)) !== 0) return this.drop('unknown client flags')
      this.zeroes = (flags & noZeroes) === 0
      this.flagsTaken = true
      return true
    }
    if (this.tooLong !== null) return inbox.skip(0) && this.refuseLong(this.tooLong)
    if (!inbox.need(options.optionHeaderBytes)) return false
    const header = options.decodeOption(inbox.bytes, inbox.at)
    if (header === null) return this.drop('wrong magic of an option')
    const { option, length } = header
    if (length > optionBytesMax) {
      if (option === Option.exportName) return this.drop('name of an export too long')
      inbox.consume(options.optionHeaderBytes)
      this.tooLong = option
      return this.host.intake.skip(length) && this.refuseLong(option)
    }
    if (!inbox.need(options.optionHeaderBytes + length)) return false
    inbox.consume(options.optionHeaderBytes)
    const data = inbox.bytes.subarray(inbox.at, inbox.at + length)
    inbox.consume(length)
    this.handle(option, data)
    return true
  }

  /** Answers once all of the option is here: some clients read nothing while they send. */
  private refuseLong(option: number): true {
    this.tooLong = null
    if (this.mustBeginTls) this.replyTlsFirst(option)
    else this.reply(option, Reply.errTooBig, 'the option is too long')
    return true
  }

  /** True while all that a client may do is to begin TLS, or to leave. */
  private get mustBeginTls(): boolean {
    return this.offer.entrance.tls?.mode === 'required' && this.tls === 'none'
  }

  private replyTlsFirst(option: number): void {
    this.reply(option, Reply.errTlsReqd, 'TLS comes first')
  }

  private handle(option: number, data: Buffer): void {
    if (this.mustBeginTls && option !== Option.startTls && option !== Option.abort) {
      if (option === Option.exportName) this.drop('asked for an export without TLS')
      else this.replyTlsFirst(option)
      return
    }
    if (data.length > 0 && optionsWithoutData.has(option)) {
      this.reply(option, Reply.errInvalid, 'the option takes no data')
      return
    }
    switch (option) {
      case Option.exportName:
        this.choose(option, data.toString(), [])
        break
      case Option.abort:
        this.reply(option, Reply.ack)
        this.end()
        break
      case Option.list:
        this.host.intake.share(this.offer.listingOf(this.exports))
        break
      case Option.structuredReply:
        this.structured = true
        this.reply(option, Reply.ack)
        break
      case Option.info:
      case Option.go: {
        const request = options.decodeInfoRequest(data)
        if (request === null) this.reply(option, Reply.errInvalid, 'the option does not parse')
        else this.choose(option, request.name, request.infos)
        break
      }
      case Option.startTls:
        this.startTls(option)
        break
      case Option.listMetaContext:
      case Option.setMetaContext:
        this.metaContext(option, data)
        break
      default:
        this.reply(option, Reply.errUnsup, 'the option is not supported')
    }
  }

  private startTls(option: number): void {
    const { tls } = this.offer.entrance
    const { intake } = this.host
    // Not "unsupported": the client learns that it is the server's choice to have no TLS.
    if (tls === undefined) this.reply(option, Reply.errPolicy, 'TLS is not configured here')
    else if (this.tls !== 'none') this.reply(option, Reply.errInvalid, 'TLS has begun')
    // Anybody on the way may have put them there, to be taken for the client's.
    else if (intake.inbox.available > 0) this.drop('sent more behind STARTTLS')
    else {
      this.tls = 'begun'
      // What was agreed in clear may not be what the client said.
      this.structured = false
      this.allocationOf = null
      this.reply(option, Reply.ack)
      intake.outbox.flush()
      intake.connection.startTls!(tls.side, () => {
        this.tls = 'done'
        intake.wake()
      })
    }
  }

  private tellUnproven({ message }: StorageError): void {
    const { intake, context } = this.host
    const fields = { peer: intake.connection.peer, reason: message }
    context.log.info(fields, 'an NBD client was refused: it has not proven who it is')
    this.host.refused(message)
  }

  private metaContext(option: number, data: Buffer): void {
    const set = option === Option.setMetaContext
    if (set) this.allocationOf = null
    const request = options.decodeMetaRequest(data)
    if (request === null || !this.structured) {
      const why = request === null ? 'the option does not parse' : 'structured replies come first'
      this.reply(option, Reply.errInvalid, why)
      return
    }
    const exported = this.find(request.name)
    if (exported === undefined) {
      this.reply(option, Reply.errUnknown, 'there is no such export')
      return
    }
    const { queries } = request
    const every = !set && (queries.length === 0 || queries.includes('base:'))
    if (every || queries.includes(options.allocationContext)) {
      if (set) this.allocationOf = exported
      // The one context there is has the id 1 when it is selected; in a list, ids mean nothing.
      const context = options.encodeMetaContext(set ? 1 : 0, options.allocationContext)
      this.replyData(option, Reply.metaContext, context)
    }
    this.reply(option, Reply.ack)
  }

  /** EXPORT_NAME, INFO and GO: the client names the export it wants. */
  private choose(option: number, name: string, infos: readonly number[]): void {
    const exported = this.find(name)
    if (exported === undefined) {
      this.tellRefused(name, 'there is no such export')
      if (option === Option.exportName) this.drop('asked for an export that is not there')
      else this.reply(option, Reply.errUnknown, 'there is no such export')
      return
    }
    const { device } = exported
    // INFO is answered from what was learnt earlier, and never kept waiting.
    if (device.usable || (option === Option.info && device.facts !== null)) {
      this.accept(option, exported, infos)
      return
    }
    if (option === Option.info) {
      this.reply(option, Reply.errUnknown, this.notUsable(exported))
      return
    }
    this.waiting = { option, exported, infos }
    device.watch(this.deviceChanged)
  }

  private readonly deviceChanged = (): void => {
    const { waiting } = this
    if (waiting === null || !waiting.exported.device.usable || this.host.intake.over) return
    this.stopWaiting()
    // By its name: rules may have changed meanwhile.
    this.choose(waiting.option, waiting.exported.name, waiting.infos)
    this.host.intake.wake()
  }

  private accept(option: number, exported: Export, infos: readonly number[]): void {
    const facts = exported.device.facts!
    const df = this.structured ? TransmissionFlag.df : 0
    const flags = transmissionFlags(exported, facts) | df
    const payloadMax = roundDown(this.offer.payloadMax, facts.blockSize)
    if (payloadMax < unaskedBytesMax && !infos.includes(Info.blockSize)) {
      const why = `at most ${payloadMax} bytes are read or written at once: ask for block sizes`
      this.tellRefused(exported.name, why)
      if (option === Option.exportName) this.drop(why)
      else this.reply(option, Reply.errBlockSizeReqd, why)
      return
    }
    if (option === Option.exportName)
      this.send(options.encodeExportNameReply(facts.size, flags, this.zeroes ? 'zeroes' : 'none'))
    else this.describe(option, exported, infos, flags)
    if (option === Option.info) return
    this.finish()
    const { host } = this
    const { log } = host.context
    const { peer, identity } = host.intake.connection
    const who = provenName(identity)
    const fields = { peer, ...(who === '' ? {} : { identity: who }), export: exported.name }
    log.info(fields, 'an NBD client uses an export')
    const transmission = new Transmission(host, exported, {
      structured: this.structured,
      allocation: this.allocationOf === exported,
      payloadMax,
      flags,
    })
    host.begins(exported, this.offer.entrance)
    host.intake.begin(transmission)
  }

  private describe(
    option: number,
    exported: Export,
    infos: readonly number[],
    flags: number,
  ): void {
    const facts = exported.device.facts!
    const { name, description } = exported
    const item = (info: options.InfoItem): void => {
      this.replyData(option, Reply.info, options.encodeInfo(info))
    }
    item({ info: Info.export, size: BigInt(facts.size), flags })
    if (infos.includes(Info.name)) item({ info: Info.name, text: name })
    if (infos.includes(Info.description) && description !== '')
      item({ info: Info.description, text: description })
    if (infos.includes(Info.blockSize)) {
      const maximum = roundDown(this.offer.payloadMax, facts.blockSize)
      const preferred = Math.min(maximum, Math.max(512, facts.preferredBlockSize, facts.blockSize))
      item({ info: Info.blockSize, minimum: facts.blockSize, preferred, maximum })
    }
    this.reply(option, Reply.ack)
  }

  /** What the client sees, as it is known now. */
  private get exports(): Exports {
    return this.offer.entrance.seenBy(this.host.intake.connection.identity)
  }

  /** The export of a name; the empty name means the only export, if there is just one. */
  private find(name: string): Export | undefined {
    const { exports } = this
    const exported = exports.find(name)
    if (exported !== undefined || name !== '') return exported
    const all = exports.list()
    return all.length === 1 ? exports.find(all[0]!.name) : undefined
  }

  private tellRefused(name: string, reason: string): void {
    const { intake, context } = this.host
    const fields = { peer: intake.connection.peer, export: name.slice(0, nameShown), reason }
    context.log.info(fields, 'an NBD client was refused')
    this.host.refused(reason, name)
  }

  private notUsable(exported: Export): string {
    const { word, reason } = exported.device.state
    return `the export is not available: its device is ${word}${reason === '' ? '' : `: ${reason}`}`
  }

  private expire(): void {
    const { waiting } = this
    if (waiting === null || waiting.option === Option.exportName) {
      this.drop(`did not negotiate within ${this.host.context.limits.handshakeTimeout} ms`)
      return
    }
    this.stopWaiting()
    this.tellRefused(waiting.exported.name, this.notUsable(waiting.exported))
    this.reply(waiting.option, Reply.errUnknown, this.notUsable(waiting.exported))
    this.end()
  }

  private stopWaiting(): void {
    this.waiting?.exported.device.unwatch(this.deviceChanged)
    this.waiting = null
  }

  private finish(): void {
    this.over = true
    this.timer.cancel()
    this.stopWaiting()
  }

  /** Closes once everything said has been sent. */
  private end(): void {
    this.finish()
    this.host.intake.end()
  }

  private drop(why: string): false {
    this.finish()
    this.host.fail(new StorageError('PROTOCOL', why))
    return false
  }

  private reply(option: number, type: number, message = ''): void {
    this.replyData(option, type, Buffer.from(message).subarray(0, stringBytesMax))
  }

  private replyData(option: number, type: number, data: Buffer): void {
    this.send(options.encodeOptionReply(option, type, data))
  }

  private send(bytes: Buffer): void {
    const { outbox, room } = this.host.intake
    const at = outbox.reserve(bytes.length)
    bytes.copy(outbox.bytes, at)
    room.charge(bytes.length)
  }
}

/**
 * What a client may do, whatever kind of replies it gets. Several connections are always fine: they
 * all end in the one device object of this process, whose flush covers every write that it
 * acknowledged, over any connection.
 */
function transmissionFlags(exported: Export, facts: Facts): number {
  let flags: number = TransmissionFlag.hasFlags | TransmissionFlag.multiConn
  flags |= TransmissionFlag.cache
  if (facts.rotational) flags |= TransmissionFlag.rotational
  if (facts.flush !== 'none') flags |= TransmissionFlag.flush
  if (exported.readOnly || facts.readOnly) return flags | TransmissionFlag.readOnly
  if (facts.fua !== 'none') flags |= TransmissionFlag.fua
  if (facts.trim === 'native') flags |= TransmissionFlag.trim
  if (facts.writeZeroes !== 'none')
    flags |= TransmissionFlag.writeZeroes | TransmissionFlag.fastZero
  return flags
}
