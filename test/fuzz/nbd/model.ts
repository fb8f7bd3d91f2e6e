import { Operation } from '../../../src/device/request.ts'
import { apply, names, type Change } from '../served.ts'

/** What an NBD server has to answer, by the text of the protocol, to bytes that a client sent. */

/** How an option is answered: the kinds of its replies, the last of which ends it. */
export interface OptionAnswer {
  readonly option: number
  readonly ends: 'ack' | 'error'
  /** What may come before: exports of a list, information, contexts. */
  readonly before: 'server' | 'info' | 'context' | 'nothing'
}

/** The answer to EXPORT_NAME. */
export interface OldAnswer {
  readonly size: number
  readonly bytes: number
}

/** The answer to a request. */
export interface Answer {
  readonly cookie: string
  readonly failed: boolean
  readonly kind: 'data' | 'status' | 'nothing'
  /** What a read returns, when it is carried out. */
  readonly data: Buffer | null
  readonly offset: number
  readonly length: number
  /** Whether one run of a status is all that was asked for. */
  readonly one: boolean
  /** How many changes come before it. */
  readonly before: number
}

interface Setting {
  readonly size: number
  /** Bytes of the longest payload. */
  readonly payloadMax: number
  /** What the device holds at the beginning; changed in place. */
  readonly content: Buffer
}

/** Bytes of the longest option; longer ones are refused. */
const optionMax = 2 * 4096 + 64
/** Bytes of a write that is refused and still taken in. */
const refusedMax = 64 * 1024 * 1024
const exportsKnown: readonly string[] = [names.open, names.readOnly]

/** Reads what a client said as a server has to. */
export class NbdModel {
  readonly options: (OptionAnswer | OldAnswer)[] = []
  readonly answers: Answer[] = []
  /** The changes that have to reach the device, in order. */
  readonly changes: Change[] = []
  structured = false
  /** Whether the server has to close: because it cannot go on, or because that was asked for. */
  closes = false
  private readonly bytes: Buffer
  private readonly setting: Setting
  private at = 0
  private zeroes = true
  private allocationOf = ''
  private chosen = ''

  constructor(bytes: Buffer, setting: Setting) {
    this.bytes = bytes
    this.setting = setting
    if (!this.flags()) return
    while (!this.closes && this.chosen === '' && this.option());
    while (!this.closes && this.chosen !== '' && this.request());
  }

  private left(): number {
    return this.bytes.length - this.at
  }

  private close(): false {
    this.closes = true
    return false
  }

  private flags(): boolean {
    if (this.left() < 4) return false
    const flags = this.bytes.readUInt32BE(0)
    this.at = 4
    if (flags > 3) return this.close()
    this.zeroes = (flags & 2) === 0
    return true
  }

  private option(): boolean {
    const { bytes, at } = this
    if (this.left() < 16) return false
    if (bytes.toString('latin1', at, at + 8) !== 'IHAVEOPT') return this.close()
    const option = bytes.readUInt32BE(at + 8)
    const length = bytes.readUInt32BE(at + 12)
    if (length > optionMax && option === 1) return this.close()
    if (this.left() < 16 + length) return false
    this.at = at + 16 + length
    if (length > optionMax) return this.answer(option, 'error')
    return this.handle(option, bytes.subarray(at + 16, this.at))
  }

  private answer(
    option: number,
    ends: OptionAnswer['ends'],
    before: OptionAnswer['before'] = 'nothing',
  ): true {
    this.options.push({ option, ends, before })
    return true
  }

  private handle(option: number, data: Buffer): boolean {
    const bare = data.length === 0
    switch (option) {
      case 1:
        return this.old(data.toString())
      case 2:
        this.answer(option, 'ack')
        return this.close()
      case 3:
        return bare ? this.answer(option, 'ack', 'server') : this.answer(option, 'error')
      case 6:
      case 7:
        return this.info(option, data)
      case 8:
        this.structured ||= bare
        return this.answer(option, bare ? 'ack' : 'error')
      case 9:
      case 10:
        return this.context(option, data)
      default:
        return this.answer(option, 'error')
    }
  }

  private old(name: string): boolean {
    if (!exportsKnown.includes(name)) return this.close()
    this.chosen = name
    this.options.push({ size: this.setting.size, bytes: this.zeroes ? 134 : 10 })
    return true
  }

  /** A text with its length before it; null if it is not all there. */
  private text(data: Buffer, at: number): { text: string; end: number } | null {
    if (data.length < at + 4) return null
    const length = data.readUInt32BE(at)
    const end = at + 4 + length
    if (length > 4096 || end > data.length) return null
    return { text: data.toString('utf8', at + 4, end), end }
  }

  private info(option: number, data: Buffer): boolean {
    const name = this.text(data, 0)
    if (name === null || data.length < name.end + 2) return this.answer(option, 'error')
    const count = data.readUInt16BE(name.end)
    if (data.length !== name.end + 2 + 2 * count) return this.answer(option, 'error')
    if (!exportsKnown.includes(name.text)) return this.answer(option, 'error')
    if (option === 7) this.chosen = name.text
    return this.answer(option, 'ack', 'info')
  }

  private context(option: number, data: Buffer): boolean {
    if (option === 10) this.allocationOf = ''
    const name = this.text(data, 0)
    if (name === null || data.length < name.end + 4) return this.answer(option, 'error')
    let { end } = name
    const queries: string[] = []
    const count = data.readUInt32BE(end)
    end += 4
    for (let left = count; left > 0; left--) {
      const query = this.text(data, end)
      if (query === null) return this.answer(option, 'error')
      queries.push(query.text)
      end = query.end
    }
    const known = exportsKnown.includes(name.text)
    if (end !== data.length || !this.structured || !known) return this.answer(option, 'error')
    const allocation = queries.includes('base:allocation')
    if (option === 10 && allocation) this.allocationOf = name.text
    return this.answer(option, 'ack', 'context')
  }

  private request(): boolean {
    const { bytes, at } = this
    if (this.left() < 28) return false
    if (bytes.readUInt32BE(at) !== 0x25609513) return this.close()
    const type = bytes.readUInt16BE(at + 6)
    const length = bytes.readUInt32BE(at + 24)
    const offset = bytes.readBigUInt64BE(at + 16)
    if (type === 2) return this.close()
    const fine = this.isFine(type, bytes.readUInt16BE(at + 4), offset, length)
    const payload = type === 1 ? length : 0
    // One that is refused is taken in all the same, unless no known client sends as much.
    if (!fine && payload > refusedMax) return this.close()
    if (this.left() < 28 + payload) return false
    this.at = at + 28 + payload
    this.carryOut(at, type, fine)
    return true
  }

  private isFine(type: number, flags: number, offset: bigint, length: number): boolean {
    const { size, payloadMax } = this.setting
    const readOnly = this.chosen === names.readOnly
    const forced = readOnly ? 0 : 1
    const whole = this.structured ? 4 : 0
    const allowed = [forced | whole, forced, 0, forced, forced, forced, forced | 18, forced | 8]
    if (type >= allowed.length || (flags & ~allowed[type]!) !== 0) return false
    const inRange = length > 0 && offset + BigInt(length) <= BigInt(size)
    if (type === 0) return inRange && length <= payloadMax
    if (type === 1) return inRange && length <= payloadMax && !readOnly
    if (type === 3) return offset === 0n && length === 0
    if (type === 4 || type === 6) return inRange && !readOnly
    return type === 7 ? inRange && this.allocationOf === this.chosen : inRange
  }

  /** Notes the answer to the request at `at`, and what it does to the device. */
  private carryOut(at: number, type: number, fine: boolean): void {
    const { bytes, setting, changes } = this
    const length = bytes.readUInt32BE(at + 24)
    const offset = Number(bytes.readBigUInt64BE(at + 16))
    const cookie = bytes.toString('hex', at + 8, at + 16)
    const kind = fine ? (kindOf[type] ?? 'nothing') : 'nothing'
    const data =
      kind === 'nothing' ? null : Buffer.from(setting.content.subarray(offset, offset + length))
    const one = (bytes.readUInt16BE(at + 4) & 8) !== 0
    const before = changes.length
    this.answers.push({ cookie, failed: !fine, kind, data, offset, length, one, before })
    const operation = operationOf[type]
    if (!fine || operation === undefined) return
    const payload = type === 1 ? bytes.subarray(at + 28, at + 28 + length) : null
    const change = { operation, offset, length, payload }
    changes.push(change)
    apply(setting.content, change)
  }
}

const kindOf: Readonly<Record<number, Answer['kind']>> = { 0: 'data', 7: 'status' }

const operationOf: Readonly<Record<number, Operation>> = {
  1: Operation.write,
  4: Operation.trim,
  6: Operation.writeZeroes,
}
