import { crc32 } from 'node:zlib'
import { isChange, Operation } from '../../../src/device/request.ts'
import { apply, names, type Change } from '../served.ts'
import { checksumAround, magic } from './talk.ts'

/** What a DST/1 server has to answer, by `docs/protocol.md`, to bytes that a client sent. */

/** Numbers of the statuses that are used here. */
export const Status = {
  ok: 0,
  invalid: 1,
  range: 2,
  readOnly: 3,
  tooLarge: 4,
  unsupported: 5,
  fenced: 11,
  config: 16,
  checksum: 100,
} as const

/** The answer to the hello. */
export interface First {
  readonly kind: 'welcome' | 'refusal' | 'listing'
  readonly features: number
  readonly size: number
}

/** The answer to a message. */
export interface Answer {
  readonly kind: 'pong' | 'bare' | 'data' | 'runs' | 'text'
  readonly slot: number
  readonly sequence: number
  readonly status: number
  /** What a read returns, when it is carried out. */
  readonly data: Buffer | null
  readonly offset: number
  readonly length: number
  /** How many changes come before it. */
  readonly before: number
  /** Whether other answers may come before it although they were asked for later. */
  readonly late: boolean
}

interface Setting {
  readonly size: number
  /** Bytes of the longest payload. */
  readonly payloadMax: number
  /** What the device holds at the beginning; changed in place. */
  readonly content: Buffer
}

interface Message {
  readonly command: number
  readonly flags: number
  readonly slot: number
  readonly sequence: number
  readonly offset: bigint
  readonly length: number
  readonly payload: number
  readonly payloadChecksum: number
}

/** Bytes of the longest name. */
const nameMax = 4096
const safeMax = BigInt(Number.MAX_SAFE_INTEGER)
const claimMax = 2 ** 52 + 2 ** 51
/** Questions that a server takes at once: of more it may close the connection. */
const questionsMax = 16
const flagsOf: readonly number[] = [0, 1, 0, 1, 7, 0]

/** Reads what a client said as a server has to. */
export class DstModel {
  first: First | null = null
  readonly answers: Answer[] = []
  /** The changes that have to reach the device, in order. */
  readonly changes: Change[] = []
  /** Whether the server has to close: because it cannot go on, or because that was asked for. */
  closes = false
  /** Whether it may close: because of too many questions at once. */
  mayClose = false
  checksums = false
  private readonly bytes: Buffer
  private readonly setting: Setting
  private at = 0
  private readOnly = false
  private claimed = 0
  private questions = 0
  /** By slot: the last change that was carried out. */
  private readonly slots = new Map<number, { sequence: number; status: number }>()

  constructor(bytes: Buffer, setting: Setting) {
    this.bytes = bytes
    this.setting = setting
    if (this.hello()) while (!this.closes && this.message());
  }

  private left(): number {
    return this.bytes.length - this.at
  }

  private close(): false {
    this.closes = true
    return false
  }

  private answerFirst(kind: First['kind'], features = 0): boolean {
    this.first = { kind, features, size: this.setting.size }
    return kind === 'welcome' || this.close()
  }

  /** True once requests may follow. */
  private hello(): boolean {
    const { bytes } = this
    if (this.left() < 16) return false
    const length = bytes.readUInt32LE(12)
    if (!bytes.subarray(0, 8).equals(magic) || length > 56 + nameMax) return this.close()
    if (bytes.readUInt16LE(8) > 1 || bytes.readUInt16LE(10) < 1) return this.answerFirst('refusal')
    const end = 16 + length
    if (bytes.length < end) return false
    this.at = end
    if (end < 72) return this.close()
    const name = bytes.readUInt16LE(56)
    const claim = bytes.readBigUInt64LE(48)
    const sum = checksumAround(bytes.subarray(0, end), 68)
    const isWhole = end === 72 + name && sum === bytes.readUInt32LE(68)
    if (!isWhole || claim > safeMax) return this.close()
    const purpose = bytes[16]
    if (purpose === 2) return this.answerFirst('listing')
    if (purpose !== 1) return this.answerFirst('refusal')
    return this.attach(bytes.toString('utf8', 72, end), Number(claim))
  }

  private attach(name: string, claim: number): boolean {
    this.readOnly = name === names.readOnly
    const isKnown = name === names.open || this.readOnly
    if (!isKnown || claim > claimMax || (claim > 0 && this.readOnly))
      return this.answerFirst('refusal')
    this.claimed = claim
    const features = this.bytes.readUInt32LE(20) & 7
    this.checksums = (features & 1) !== 0
    return this.answerFirst('welcome', features)
  }

  private message(): boolean {
    const { bytes, at, checksums } = this
    if (this.left() < 32) return false
    const sum = bytes.readUInt32LE(at + 28)
    const payloadChecksum = bytes.readUInt32LE(at + 24)
    const isWhole = checksums
      ? sum === crc32(bytes.subarray(at, at + 28))
      : sum === 0 && payloadChecksum === 0
    if (!isWhole) return this.close()
    const message: Message = {
      command: bytes[at]!,
      flags: bytes[at + 1]!,
      slot: bytes.readUInt16LE(at + 2),
      sequence: bytes.readUInt32LE(at + 4),
      offset: bytes.readBigUInt64LE(at + 8),
      length: bytes.readUInt32LE(at + 16),
      payload: bytes.readUInt32LE(at + 20),
      payloadChecksum,
    }
    this.at += 32
    const isRequest = message.command >= 1 && message.command <= 6
    return isRequest ? this.request(message) : this.control(message)
  }

  /** Steps over a payload; false if it is not all there. */
  private skip({ payload }: Message): boolean {
    this.at += payload
    return this.at <= this.bytes.length
  }

  private answer(message: Message, status: number, kind: Answer['kind'], late = 'no'): void {
    const { slot, sequence, length } = message
    const offset = Number(message.offset)
    const hasRange = kind === 'data' || kind === 'runs'
    const data = hasRange
      ? Buffer.from(this.setting.content.subarray(offset, offset + length))
      : null
    const before = this.changes.length
    const isLate = late === 'late'
    this.answers.push({ kind, slot, sequence, status, data, offset, length, before, late: isLate })
  }

  private control(message: Message): boolean {
    const { command } = message
    if (command === 32) this.answer(message, Status.ok, 'pong')
    else if (command >= 16 && command <= 18) this.question(message)
    else if (command !== 33) this.answer(message, Status.unsupported, 'text')
    return this.skip(message)
  }

  private question(message: Message): void {
    if (++this.questions > questionsMax) this.mayClose = true
    const status = message.command === 17 ? this.claim(message.offset) : Status.ok
    this.answer(message, status, 'text', 'late')
  }

  private claim(epoch: bigint): number {
    const number = Number(epoch)
    if (epoch > safeMax) return Status.invalid
    if (this.readOnly) return Status.readOnly
    const { claimed } = this
    const leap = Math.min(claimMax, Math.max(2 ** 44, claimed * 2 ** 11))
    if (number > (claimed === 0 ? claimMax : leap)) return Status.invalid
    if (number > 0 && number < claimed) return Status.fenced
    if (number > 0) this.claimed = number
    return Status.ok
  }

  private request(message: Message): boolean {
    const { slot, sequence, command } = message
    if (slot >= 1024) return this.close()
    const operation = (command - 1) as Operation
    const refused = this.refusal(message, operation)
    const known = this.slots.get(slot)
    if (refused !== null) {
      this.answer(message, refused, 'text')
      return this.skip(message)
    }
    if (isChange(operation) && known?.sequence === sequence) {
      this.answer(message, known.status, 'bare')
      return this.skip(message)
    }
    const from = this.at
    if (!this.skip(message)) return false
    const payload = this.bytes.subarray(from, this.at)
    if (operation === Operation.write && this.checksums)
      if (crc32(payload) !== message.payloadChecksum) {
        this.answer(message, Status.checksum, 'bare')
        return true
      }
    this.carryOut(message, payload)
    return true
  }

  /** Why the request is refused before anything of it is taken in; null if it is not. */
  private refusal({ flags, offset, payload, length }: Message, operation: Operation) {
    if ((flags & ~7) !== 0) return Status.invalid
    if (offset > safeMax && operation !== Operation.flush) return Status.range
    if (payload !== (operation === Operation.write ? length : 0)) return Status.invalid
    if (operation <= Operation.write && length > this.setting.payloadMax) return Status.tooLarge
    return isChange(operation) && this.readOnly ? Status.readOnly : null
  }

  private carryOut(message: Message, payload: Buffer): void {
    const { slot, sequence, length, flags } = message
    const operation = (message.command - 1) as Operation
    const offset = Number(message.offset)
    const isFlush = operation === Operation.flush
    let status: number = Status.ok
    if ((flags & ~flagsOf[operation]!) !== 0 || (length === 0 && !isFlush)) status = Status.invalid
    else if (!isFlush && offset + length > this.setting.size) status = Status.range
    const kind = status === Status.ok ? (kindOf[operation] ?? 'bare') : 'text'
    this.answer(message, status, kind)
    if (!isChange(operation)) {
      this.slots.delete(slot)
      return
    }
    this.slots.set(slot, { sequence, status })
    if (status !== Status.ok) return
    const bytes = operation === Operation.write ? payload : null
    const change = { operation, offset, length, payload: bytes }
    this.changes.push(change)
    apply(this.setting.content, change)
  }
}

const kindOf: Readonly<Record<number, Answer['kind']>> = {
  [Operation.read]: 'data',
  [Operation.status]: 'runs',
}
