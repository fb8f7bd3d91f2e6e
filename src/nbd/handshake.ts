import { StorageError, type Code } from '../base/errors.ts'
import { isPowerOfTwo } from '../base/guards.ts'
import { KiB, MiB } from '../base/size.ts'
import type { Inbox } from '../net/inbox.ts'
import * as options from './options.ts'
import { Info, Option, Reply, type BlockSizes, type ExportListing } from './options.ts'

/** What client and server agreed on. */
export interface Terms {
  readonly size: number
  /** Bits of `TransmissionFlag`. */
  readonly flags: number
  readonly blockSizes: BlockSizes
  readonly structured: boolean
  /** The id of `base:allocation`; null where block status cannot be asked for. */
  readonly context: number | null
}

/** The owner of a handshake: sends what it says and is told how it ends, once. */
export interface Conductor {
  say(bytes: Buffer): void
  /** What is said from now on goes under TLS; nothing that comes is read before it is there. */
  startTls(): void
  agreed(terms: Terms): void
  listed(exports: readonly ExportListing[]): void
  /** The server refused, cannot be used, or broke the protocol (PROTOCOL). */
  refused(error: StorageError): void
}

/** Bytes of one reply to an option: a name, a description, and their lengths fit. */
const replyBytesMax = 9 * KiB
/** Replies to all options together: the longest list of exports that is read. */
const repliesMax = 10_000

/** The block sizes of servers that tell none: every server has to take these. */
const defaultBlockSizes: BlockSizes = { minimum: 1, preferred: 4 * KiB, maximum: 32 * MiB }
/** The largest minimum a server may ask for. */
const minimumMax = 64 * KiB

/**
 * The smallest maximum that a server may give, unless its export is smaller: a request is split
 * into parts that fit, and all of them are made at once.
 */
const maximumMin = 4 * KiB

/** What to negotiate: an export to use, or the list of all. */
export type Purpose = { readonly use: string } | 'list'

type Stage =
  'greeting' | 'startTls' | 'structured' | 'context' | 'go' | 'exportName' | 'list' | 'over'

/** The client's side of the handshake; it sends one option at a time. */
export class ClientHandshake {
  private readonly conductor: Conductor
  private readonly purpose: Purpose
  private readonly way: 'clear' | 'sealed'
  private stage: Stage = 'greeting'
  private noZeroes = false
  private structured = false
  private context: number | null = null
  private size: bigint | null = null
  private flags = 0
  private blockSizes = defaultBlockSizes
  private readonly exports: ExportListing[] = []
  private replies = 0

  /** `sealed`: TLS comes first, and a server without it is refused. */
  constructor(conductor: Conductor, purpose: Purpose, way: 'clear' | 'sealed') {
    this.conductor = conductor
    this.purpose = purpose
    this.way = way
  }

  /** Reads the next message; false when it is not there yet or the handshake is over. */
  step(inbox: Inbox): boolean {
    if (this.stage === 'over') return false
    if (this.stage === 'greeting') return this.readGreeting(inbox)
    if (this.stage === 'exportName') return this.readExportName(inbox)
    return this.readReply(inbox)
  }

  private readGreeting(inbox: Inbox): boolean {
    if (!inbox.need(options.greetingBytes)) return false
    const flags = options.decodeGreeting(inbox.bytes, inbox.at)
    if (typeof flags === 'string') return this.refuse('PROTOCOL', flags)
    inbox.consume(options.greetingBytes)
    const { fixedNewstyle, noZeroes } = options.HandshakeFlag
    this.noZeroes = (flags & noZeroes) !== 0
    this.conductor.say(options.encodeClientFlags(flags & (fixedNewstyle | noZeroes)))
    if (this.way === 'sealed') this.ask('startTls', Option.startTls)
    else this.begin()
    return true
  }

  private begin(): void {
    if (this.purpose === 'list') this.ask('list', Option.list)
    else this.ask('structured', Option.structuredReply)
  }

  private handleStartTls(type: number, data: Buffer, inbox: Inbox): void {
    if (type >= options.replyErrorBit)
      this.refuse('UNSUPPORTED', 'the server has no TLS, without which it is not used')
    else if (type !== Reply.ack) this.refuseFor(type, data)
    else if (inbox.available > 0)
      this.refuse('PROTOCOL', 'bytes came in clear, behind the answer to STARTTLS')
    else {
      this.conductor.startTls()
      this.begin()
    }
  }

  private readReply(inbox: Inbox): boolean {
    if (!inbox.need(options.optionReplyHeaderBytes)) return false
    const reply = options.decodeOptionReply(inbox.bytes, inbox.at)
    if (reply === null) return this.refuse('PROTOCOL', 'wrong magic of a reply to an option')
    if (reply.option !== optionOf[this.stage])
      return this.refuse('PROTOCOL', 'a reply to an option that was not sent')
    if (reply.length > replyBytesMax || ++this.replies > repliesMax)
      return this.refuse('PROTOCOL', 'a reply to an option is too long')
    if (!inbox.need(options.optionReplyHeaderBytes + reply.length)) return false
    inbox.consume(options.optionReplyHeaderBytes)
    const data = Buffer.from(inbox.bytes.subarray(inbox.at, inbox.at + reply.length))
    inbox.consume(reply.length)
    const failed = reply.type >= options.replyErrorBit
    if (this.stage === 'startTls') this.handleStartTls(reply.type, data, inbox)
    else if (this.stage === 'list') this.handleList(reply.type, data)
    else if (this.stage === 'structured') {
      this.structured = reply.type === Reply.ack
      if (this.structured) this.askContext()
      else this.askGo()
    } else if (this.stage === 'context') {
      const context = reply.type === Reply.metaContext ? options.decodeMetaContext(data) : null
      if (context?.name === options.allocationContext) this.context = context.id
      if (failed) this.context = null
      if (failed || reply.type === Reply.ack) this.askGo()
    } else this.handleGo(reply.type, data)
    return true
  }

  private handleList(type: number, data: Buffer): void {
    if (type === Reply.server) {
      const listing = options.decodeServer(data)
      if (listing === null) this.refuse('PROTOCOL', 'a listed export does not parse')
      else this.exports.push(listing)
    } else if (type === Reply.ack) {
      this.stage = 'over'
      this.conductor.listed(this.exports)
    } else this.refuseFor(type, data)
  }

  private handleGo(type: number, data: Buffer): void {
    if (type === Reply.info) {
      const item = options.decodeInfo(data)
      if (item === null) this.refuse('PROTOCOL', 'an information does not parse')
      else if (item === 'unknown') return
      else if (item.info === Info.export) {
        this.size = item.size
        this.flags = item.flags
      } else if (item.info === Info.blockSize) this.blockSizes = item
    } else if (type === Reply.ack) this.agree()
    else if (type === Reply.errUnsup) {
      // Servers from before 2017 have only the option that cannot say what is wrong.
      this.ask('exportName', Option.exportName, Buffer.from(this.name))
    } else this.refuseFor(type, data)
  }

  private readExportName(inbox: Inbox): boolean {
    const bytes = options.exportNameReplyBytes + (this.noZeroes ? 0 : options.exportNameZeroBytes)
    if (!inbox.need(bytes)) return false
    this.size = inbox.bytes.readBigUInt64BE(inbox.at)
    this.flags = inbox.bytes.readUInt16BE(inbox.at + 8)
    inbox.consume(bytes)
    this.agree()
    return true
  }

  private agree(): void {
    const { size, flags, structured, context } = this
    const { minimum, preferred, maximum } = this.blockSizes
    if (size === null) {
      this.refuse('PROTOCOL', 'the server accepted without saying the size')
      return
    }
    if (size > BigInt(Number.MAX_SAFE_INTEGER)) {
      this.refuse('UNSUPPORTED', 'the export is larger than 8 PiB')
      return
    }
    const sane = isPowerOfTwo(minimum) && minimum <= minimumMax && isPowerOfTwo(preferred)
    const least = Math.max(minimum, Math.min(maximumMin, Number(size)))
    if (!sane || preferred < minimum || maximum < least) {
      this.refuse('PROTOCOL', 'the server gave block sizes that cannot be')
      return
    }
    this.stage = 'over'
    const { blockSizes } = this
    this.conductor.agreed({ size: Number(size), flags, blockSizes, structured, context })
  }

  private get name(): string {
    return this.purpose === 'list' ? '' : this.purpose.use
  }

  private askContext(): void {
    const request = { name: this.name, queries: [options.allocationContext] }
    this.ask('context', Option.setMetaContext, options.encodeMetaRequest(request))
  }

  private askGo(): void {
    const request = { name: this.name, infos: [Info.blockSize] }
    this.ask('go', Option.go, options.encodeInfoRequest(request))
  }

  private ask(stage: Stage, option: number, data: Buffer = Buffer.alloc(0)): void {
    this.stage = stage
    this.conductor.say(options.encodeOption(option, data))
  }

  private refuseFor(type: number, data: Buffer): void {
    if (type < options.replyErrorBit) {
      this.refuse('PROTOCOL', 'an unknown reply to an option')
      return
    }
    const message = data.toString().replace(/[^ -~]+/g, ' ')
    const [code, text] = refusals[type] ?? ['UNAVAILABLE', 'the server refused']
    this.refuse(code, message === '' ? text : `${text}: ${message}`)
  }

  private refuse(code: Code, message: string): false {
    this.stage = 'over'
    this.conductor.refused(new StorageError(code, message))
    return false
  }
}

const optionOf: Readonly<Partial<Record<Stage, number>>> = {
  startTls: Option.startTls,
  structured: Option.structuredReply,
  context: Option.setMetaContext,
  go: Option.go,
  list: Option.list,
}

const refusals: Readonly<Record<number, readonly [Code, string]>> = {
  [Reply.errPolicy]: ['UNAVAILABLE', 'the server does not allow it'],
  [Reply.errTlsReqd]: ['UNSUPPORTED', 'the server insists on TLS: nbds:// begins it'],
  [Reply.errUnknown]: ['UNAVAILABLE', 'the server has no such export'],
  [Reply.errShutdown]: ['SHUTDOWN', 'the server is stopping'],
}
