import { crc32 } from 'node:zlib'
import type { Heard } from '../serving.ts'
import { isZeroes } from '../mutate.ts'
import { must } from '../trial.ts'
import type { Answer, DstModel, First } from './model.ts'
import { checksumAround, magic } from './talk.ts'

/**
 * Reads what a DST/1 server answered, and holds it against what it had to: every byte is accounted
 * for. Written from `docs/protocol.md`, like the model.
 */

interface Reading {
  readonly bytes: Buffer
  readonly model: DstModel
  /** The answers that are due. */
  readonly due: Answer[]
  at: number
}

class CutShort extends Error {}

/** Checks all bytes that were heard. `a part`: they may break off anywhere. */
export function check(bytes: Buffer, model: DstModel, heard: Heard): void {
  const reading: Reading = { bytes, model, due: [...model.answers], at: 0 }
  const isPart = heard === 'a part' || model.mayClose
  try {
    if (bytes.length > 0 || model.first !== null) first(reading, model.first)
    while (reading.at < bytes.length) reply(reading)
  } catch (error) {
    if (!(error instanceof CutShort)) throw error
    must(isPart, `the answers end at byte ${bytes.length}, too early`)
    return
  }
  const { length } = reading.due
  must(length === 0 || isPart, `${length} messages are not answered`)
}

/** The next bytes, which have to be there. */
function take(reading: Reading, length: number): Buffer {
  const { bytes, at } = reading
  if (bytes.length - at < length) throw new CutShort()
  reading.at = at + length
  return bytes.subarray(at, at + length)
}

function first(reading: Reading, expected: First | null): void {
  must(expected !== null, 'a hello is answered that is none')
  const preface = take(reading, 16)
  must(preface.subarray(0, 8).equals(magic), 'the first answer has the wrong magic')
  must(preface.readUInt32LE(8) === 0x0001_0001, 'the first answer is of another version')
  take(reading, preface.readUInt32LE(12))
  const bytes = reading.bytes.subarray(0, reading.at)
  const place = expected.kind === 'listing' ? 20 : 108
  must(bytes.length >= place + 4, 'the first answer is too short')
  const sum = checksumAround(bytes, place)
  must(sum === bytes.readUInt32LE(place), 'the first answer has the wrong checksum')
  if (expected.kind === 'listing') listing(bytes)
  else welcome(bytes, expected)
}

function listing(bytes: Buffer): void {
  let at = 24
  for (let left = bytes.readUInt32LE(16); left > 0; left--)
    at += 16 + bytes.readUInt16LE(at + 8) + bytes.readUInt16LE(at + 10)
  must(at === bytes.length && bytes.readUInt32LE(16) === 2, 'the listing is wrong')
}

function welcome(bytes: Buffer, { kind, features, size }: First): void {
  const status = bytes[16]!
  must(bytes.length === 112 + bytes.readUInt16LE(104), 'the text of the welcome is cut off')
  must((status === 0) === (kind === 'welcome'), `the hello is answered with status ${status}`)
  if (kind === 'refusal') return
  must(bytes.readUInt16LE(18) > 0, 'no request may be sent')
  must(bytes.readUInt32LE(20) === features, 'the features are not those that were asked for')
  must(bytes.readBigUInt64LE(72) === BigInt(size), 'the size is wrong')
}

const kindOf = { pong: 66, bare: 64, data: 64, runs: 64, text: 64 } as const

function reply(reading: Reading): void {
  const { model, due } = reading
  const head = take(reading, 24)
  const payload = take(reading, head.readUInt32LE(8))
  const sum = head.readUInt32LE(20)
  const ofPayload = head.readUInt32LE(16)
  if (model.checksums) {
    must(sum === crc32(head.subarray(0, 20)), 'a reply has the wrong checksum')
    must(ofPayload === crc32(payload), 'a payload has the wrong checksum')
  } else must(sum === 0 && ofPayload === 0, 'a reply has a checksum that nobody asked for')
  const slot = head.readUInt16LE(2)
  const sequence = head.readUInt32LE(4)
  const answers = (answer: Answer): boolean =>
    answer.slot === slot &&
    answer.sequence === sequence &&
    kindOf[answer.kind] === head[0] &&
    (answer.status === 0) === (head[1] === 0)
  // What is asked of the target itself is answered late; all else in order.
  const prompt = due.findIndex(({ late }) => !late)
  const at = due.findIndex((answer, index) => answers(answer) && (answer.late || index === prompt))
  must(at >= 0, `a reply to ${slot}/${sequence} with status ${head[1]} that was not due`)
  const [answer] = due.splice(at, 1)
  must(answer!.status === head[1], `status ${head[1]} instead of ${answer!.status}`)
  if (answer!.status === 0) content(reading, answer!, payload)
}

function content({ model }: Reading, answer: Answer, payload: Buffer): void {
  const { kind, length, offset, before, data } = answer
  if (kind === 'bare' || kind === 'pong') must(payload.length === 0, 'a reply has a payload')
  else if (kind === 'runs') runs(answer, payload)
  else if (kind === 'data') {
    must(payload.length === length, 'there are more data, or fewer')
    if (payload.equals(data!)) return
    const later = model.changes
      .slice(before)
      .some((each) => each.offset < offset + length && offset < each.offset + each.length)
    must(later, `a read of ${length} bytes at ${offset} has other bytes`)
  }
}

function runs({ length, data }: Answer, payload: Buffer): void {
  must(payload.length > 0 && payload.length % 8 === 0, 'runs have a strange length')
  let from = 0
  for (let at = 0; at < payload.length; at += 8) {
    const run = payload.readUInt32LE(at)
    const flags = payload.readUInt32LE(at + 4)
    must(run > 0 && from + run <= length && flags <= 3, 'a run makes no sense')
    const isZero = (flags & 1) === 0 || isZeroes(data!.subarray(from, from + run))
    must(isZero, 'a run of zeroes is none')
    from += run
  }
}
