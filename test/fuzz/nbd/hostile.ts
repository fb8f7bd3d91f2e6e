import type { Dice } from '../../simulation/dice.ts'
import { HostileServer } from '../clients.ts'
import { fieldsOf, type Part } from '../mutate.ts'
import { must } from '../trial.ts'
import type { Peer } from '../world.ts'

const optionFields = fieldsOf('big', [8, 4], [12, 4], [16, 4], [20, 2], [22, 8], [30, 2])
const simpleFields = fieldsOf('big', [4, 4], [8, 4], [12, 4])
const chunkFields = fieldsOf('big', [4, 2], [6, 2], [8, 4], [12, 4], [16, 4], [20, 8], [28, 4])

/** Says a reply to an option. */
type Reply = (type: number, data?: Buffer) => void

/** What was agreed on with one client. */
interface Talk {
  stage: 'flags' | 'options' | 'requests'
  structured: boolean
}

/** A server of NBD that may lie. Written from the protocol's text. */
export class HostileNbd extends HostileServer {
  /** What all connections agree on, as long as it does not lie. */
  private readonly structured = this.trial.dice.chance(0.7)

  protected meet(peer: Peer): void {
    const bytes = Buffer.alloc(18)
    bytes.write('NBDMAGICIHAVEOPT', 'latin1')
    bytes.writeUInt16BE(3, 16)
    this.say(peer, { bytes, fields: fieldsOf('big', [0, 8], [8, 8], [16, 2]) })
    const talk: Talk = { stage: 'flags', structured: false }
    peer.onHeard = () => {
      while (!peer.isClosed && this.step(peer, talk));
    }
  }

  /** Takes one message of the client; false when it is not all there. */
  private step(peer: Peer, talk: Talk): boolean {
    const heard = peer.heard()
    if (talk.stage === 'flags') {
      if (heard.length < 4) return false
      talk.stage = 'options'
      peer.consume(4)
      return true
    }
    return talk.stage === 'options' ? this.option(peer, talk) : this.request(peer, talk)
  }

  private option(peer: Peer, talk: Talk): boolean {
    const heard = peer.heard()
    if (heard.length < 16) return false
    must(heard.toString('latin1', 0, 8) === 'IHAVEOPT', 'the client sends an option that is none')
    const length = heard.readUInt32BE(12)
    if (heard.length < 16 + length) return false
    const option = heard.readUInt32BE(8)
    peer.consume(16 + length)
    const { dice } = this.trial
    const reply: Reply = (type, data = Buffer.alloc(0)) => {
      this.say(peer, optionReply(option, type, data))
    }
    if (option === 8) {
      talk.structured = dice.chance(this.trouble) ? dice.chance(0.5) : this.structured
      if (talk.structured !== this.structured) this.lied = true
      reply(talk.structured ? 1 : 0x8000_0001)
    } else if (option === 10) {
      reply(4, Buffer.concat([number(9), Buffer.from('base:allocation')]))
      reply(1)
    } else if (option === 7) this.go(reply, talk)
    else if (option === 1) {
      const head = Buffer.alloc(10 + (dice.chance(0.5) ? 124 : 0))
      head.writeBigUInt64BE(BigInt(this.content.length), 0)
      head.writeUInt16BE(flags, 8)
      talk.stage = 'requests'
      this.say(peer, { bytes: head, fields: fieldsOf('big', [0, 8], [8, 2]) })
    } else if (option === 3) this.list(reply)
    else reply(0x8000_0001)
    return true
  }

  private go(reply: Reply, talk: Talk): void {
    const info = Buffer.alloc(12)
    info.writeBigUInt64BE(BigInt(this.content.length), 2)
    info.writeUInt16BE(flags, 10)
    reply(3, info)
    if (this.trial.dice.chance(0.5)) {
      const sizes = Buffer.alloc(14)
      sizes.writeUInt16BE(3, 0)
      for (const [at, size] of [1, 4096, 2 ** 25].entries()) sizes.writeUInt32BE(size, 2 + 4 * at)
      reply(3, sizes)
    }
    talk.stage = 'requests'
    reply(1)
  }

  private list(reply: Reply): void {
    for (const name of ['one', 'two'])
      reply(2, Buffer.concat([number(3), Buffer.from(`${name}: x`)]))
    reply(1)
  }

  private request(peer: Peer, talk: Talk): boolean {
    const heard = peer.heard()
    if (heard.length < 28) return false
    must(heard.readUInt32BE(0) === 0x25609513, 'the client sends a request that is none')
    const type = heard.readUInt16BE(6)
    const length = heard.readUInt32BE(24)
    const whole = 28 + (type === 1 ? length : 0)
    if (heard.length < whole) return false
    const cookie = heard.subarray(8, 16)
    const offset = Number(heard.readBigUInt64BE(16))
    if (type === 1) heard.copy(this.content, offset, 28, whole)
    else if (type === 4 || type === 6) this.content.fill(0, offset, offset + length)
    const answer = { type, cookie: Buffer.from(cookie), offset, length }
    peer.consume(whole)
    if (type === 2) peer.connection.end()
    else for (const part of this.answer(answer, talk)) this.say(peer, part)
    return true
  }

  private answer(asked: Asked, { structured }: Talk): readonly Part[] {
    const { type, cookie, offset, length } = asked
    const { dice } = this.trial
    if (type === 7) return [chunk(5, cookie, Buffer.concat([number(9), ...runs(dice, length)]))]
    if (!structured || type !== 0) {
      const head = Buffer.concat([number(0x67446698), number(0), cookie])
      const payload = this.content.subarray(offset, offset + length)
      const reply = { bytes: head, fields: simpleFields }
      return type === 0 ? [reply, { bytes: Buffer.from(payload) }] : [reply]
    }
    return this.chunks(asked)
  }

  /** The answer to a read, in one piece or several. */
  private chunks({ cookie, offset, length }: Asked): readonly Part[] {
    const { dice } = this.trial
    const parts: Part[] = []
    const end = offset + length
    for (let from = offset; from < end;) {
      const to = dice.chance(0.7) ? end : from + 1 + dice.below(end - from)
      const place = Buffer.alloc(8)
      place.writeBigUInt64BE(BigInt(from))
      const data = Buffer.concat([place, this.content.subarray(from, to)])
      const last = to === end && dice.chance(0.8)
      parts.push(chunk(1, cookie, data, last ? 1 : 0))
      if (to === end && !last) parts.push(chunk(0, cookie, Buffer.alloc(0)))
      from = to
    }
    return parts
  }
}

/** A client's request. */
interface Asked {
  readonly type: number
  readonly cookie: Buffer
  readonly offset: number
  readonly length: number
}

/** Has flags; flush, FUA, trim, zeroes; several connections see the same. */
const flags = 0x1 | 0x4 | 0x8 | 0x20 | 0x40 | 0x100

function number(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

function optionReply(option: number, type: number, data: Buffer): Part {
  const head = Buffer.alloc(20)
  head.writeBigUInt64BE(0x3e889045565a9n, 0)
  head.writeUInt32BE(option, 8)
  head.writeUInt32BE(type, 12)
  head.writeUInt32BE(data.length, 16)
  return { bytes: Buffer.concat([head, data]), fields: optionFields }
}

function chunk(type: number, cookie: Buffer, payload: Buffer, done = 1): Part {
  const head = Buffer.alloc(8)
  head.writeUInt32BE(0x668e33ef, 0)
  head.writeUInt16BE(done, 4)
  head.writeUInt16BE(type, 6)
  const bytes = Buffer.concat([head, cookie, number(payload.length), payload])
  return { bytes, fields: chunkFields }
}

/** Runs that cover the range, or its beginning, or more. */
function runs(dice: Dice, length: number): readonly Buffer[] {
  const first = 1 + dice.below(length)
  const all = [number(first), number(dice.below(4))]
  if (first < length) all.push(number(length - first + dice.below(2) * 512), number(0))
  return all
}
