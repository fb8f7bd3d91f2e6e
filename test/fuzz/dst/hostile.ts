import { crc32 } from 'node:zlib'
import { HostileServer } from '../clients.ts'
import { fieldsOf, type Part } from '../mutate.ts'
import { must, type Trial } from '../trial.ts'
import type { Peer } from '../world.ts'
import { checksumAround, firstFields, magic, seal } from './talk.ts'

const welcomeFields = fieldsOf(
  'little',
  ...firstFields,
  [72, 8],
  [80, 4],
  [84, 4],
  [88, 4],
  [92, 1],
  [97, 1],
  [98, 1],
  [104, 2],
)
const replyFields = fieldsOf('little', [0, 1], [1, 1], [2, 2], [4, 4], [8, 4], [16, 4])

export const identity = '01'.repeat(16)
const bootId = '02'.repeat(16)

/** What was agreed on with one client. */
interface Talk {
  greeted: boolean
  checksums: boolean
}

/** What a client asks for. */
interface Asked {
  readonly command: number
  readonly slot: number
  readonly sequence: number
  readonly offset: number
  readonly length: number
}

/** A server of DST/1 that may lie. Written from `docs/protocol.md`. */
export class HostileDst extends HostileServer {
  /** True when its lies are seen by their checksums. */
  readonly isSeen: boolean

  constructor(trial: Trial, size: number, isSeen: boolean) {
    super(trial, size)
    this.isSeen = isSeen
  }

  protected meet(peer: Peer): void {
    const talk: Talk = { greeted: false, checksums: false }
    peer.onHeard = () => {
      while (!peer.isClosed && (talk.greeted ? this.request(peer, talk) : this.greet(peer, talk)));
    }
  }

  private greet(peer: Peer, talk: Talk): boolean {
    const heard = peer.heard()
    if (heard.length < 16) return false
    must(heard.subarray(0, 8).equals(magic), 'the client sends a hello that is none')
    const length = 16 + heard.readUInt32LE(12)
    if (heard.length < length) return false
    const hello = heard.subarray(0, length)
    must(checksumAround(hello, 68) === hello.readUInt32LE(68), 'a hello has the wrong checksum')
    const features = hello.readUInt32LE(20)
    talk.greeted = true
    talk.checksums = (features & 1) !== 0
    peer.consume(length)
    this.say(peer, this.sealed(this.welcome(features), 108))
    return true
  }

  private welcome(features: number): Buffer {
    const text = (features & 4) !== 0 ? '7' : ''
    const bytes = Buffer.alloc(112 + text.length)
    magic.copy(bytes)
    bytes.writeUInt32LE(0x0001_0001, 8)
    bytes.writeUInt32LE(bytes.length - 16, 12)
    bytes.writeUInt16LE(this.trial.dice.pick([1, 8, 128]), 18)
    bytes.writeUInt32LE(features & 7, 20)
    bytes.fill(3, 24, 40)
    this.facts(bytes, 40)
    bytes.writeUInt16LE(text.length, 104)
    bytes.write(text, 112)
    seal(bytes, 108)
    return bytes
  }

  private facts(bytes: Buffer, at: number): void {
    bytes.write(identity, at, 'hex')
    bytes.write(bootId, at + 16, 'hex')
    bytes.writeBigUInt64LE(BigInt(this.content.length), at + 32)
    bytes.writeUInt32LE(1, at + 40)
    bytes.writeUInt32LE(4096, at + 44)
    bytes.writeUInt32LE(2 ** 20, at + 48)
    bytes.fill(2, at + 52, at + 57)
    bytes[at + 58] = 1
  }

  /** A message whose checksum is made right again when it was changed, if lies are not seen. */
  private sealed(bytes: Buffer, place: number): Part {
    const part = { bytes, fields: welcomeFields }
    return this.isSeen ? part : { ...part, repair: (changed) => seal(changed, place) }
  }

  private request(peer: Peer, talk: Talk): boolean {
    const heard = peer.heard()
    if (heard.length < 32) return false
    const head = heard.subarray(0, 32)
    const sum = talk.checksums ? crc32(head.subarray(0, 28)) : 0
    // A client that was told other features than those that are on cannot know.
    const isOne = head.readUInt32LE(28) === sum
    must(isOne || this.lied, 'the client sends a request with a wrong checksum')
    if (!isOne) {
      peer.connection.destroy()
      return false
    }
    const whole = 32 + head.readUInt32LE(20)
    if (heard.length < whole) return false
    const payload = heard.subarray(32, whole)
    const ofPayload = talk.checksums ? crc32(payload) : 0
    must(head.readUInt32LE(24) === ofPayload, 'the client sends a payload with a wrong checksum')
    const asked: Asked = {
      command: head[0]!,
      slot: head.readUInt16LE(2),
      sequence: head.readUInt32LE(4),
      offset: Number(head.readBigUInt64LE(8)),
      length: head.readUInt32LE(16),
    }
    if (asked.command === 2) payload.copy(this.content, asked.offset)
    peer.consume(whole)
    this.answer(peer, asked, talk)
    return true
  }

  private answer(peer: Peer, asked: Asked, talk: Talk): void {
    const { command, offset, length } = asked
    const { dice } = this.trial
    const say = (kind: number, payload: Buffer): void => {
      for (const part of this.reply(asked, { kind, payload }, talk)) this.say(peer, part)
    }
    if (command === 33) return
    if (command === 4 || command === 5) this.content.fill(0, offset, offset + length)
    if (command === 1) say(64, Buffer.from(this.content.subarray(offset, offset + length)))
    else if (command === 6) say(64, runs(dice.below(length), length))
    else if (command === 16) say(64, Buffer.from('a stamp'))
    else if (command === 18) say(64, Buffer.from('0 7'))
    else say(command === 32 ? 66 : 64, Buffer.alloc(0))
    if (!dice.chance(this.trouble)) return
    // What nobody asked for.
    const facts = Buffer.alloc(64)
    this.facts(facts, 0)
    if (dice.chance(0.4)) say(67, facts)
    else if (dice.chance(0.6)) say(65, Buffer.alloc(0))
    else {
      this.lied = true
      say(68, Buffer.from(`${dice.below(20)}`))
    }
  }

  private reply(
    { slot, sequence }: Asked,
    { kind, payload }: { kind: number; payload: Buffer },
    { checksums }: Talk,
  ): readonly Part[] {
    const bytes = Buffer.alloc(24)
    bytes[0] = kind
    bytes.writeUInt16LE(slot, 2)
    bytes.writeUInt32LE(sequence, 4)
    bytes.writeUInt32LE(payload.length, 8)
    bytes.writeUInt32LE(checksums ? crc32(payload) : 0, 16)
    const repair = (changed: Buffer): void => {
      if (checksums && changed.length >= 24)
        changed.writeUInt32LE(crc32(changed.subarray(0, 20)), 20)
    }
    repair(bytes)
    const head: Part = { bytes, fields: replyFields }
    const first = this.isSeen ? head : { ...head, repair }
    return payload.length === 0 ? [first] : [first, { bytes: payload }]
  }
}

/** One run, or two that cover the range. */
function runs(first: number, length: number): Buffer {
  const lengths = first === 0 ? [length] : [first, length - first]
  const bytes = Buffer.alloc(8 * lengths.length)
  for (const [at, run] of lengths.entries()) bytes.writeUInt32LE(run, 8 * at)
  return bytes
}
