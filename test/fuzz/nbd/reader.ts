import type { Heard } from '../serving.ts'
import { isZeroes } from '../mutate.ts'
import { must } from '../trial.ts'
import type { Answer, NbdModel, OldAnswer, OptionAnswer } from './model.ts'

/**
 * Reads what an NBD server answered, and holds it against what it had to: every byte is accounted
 * for. Written from the protocol's text, like the model.
 */

/** Reads of more than so many bytes are lent: they may show what is written before they leave. */
const copiedMax = 16 * 1024

interface Reading {
  readonly bytes: Buffer
  readonly model: NbdModel
  at: number
}

class CutShort extends Error {}

/** Checks all bytes that were heard. `a part`: they may break off anywhere. */
export function check(bytes: Buffer, model: NbdModel, heard: Heard): void {
  const reading: Reading = { bytes, model, at: 0 }
  try {
    greeting(reading)
    for (const option of model.options)
      if ('ends' in option) optionReply(reading, option)
      else oldReply(reading, option)
    for (const answer of model.answers) {
      if (reading.at === bytes.length && heard === 'a part') return
      reply(reading, answer)
    }
  } catch (error) {
    if (!(error instanceof CutShort)) throw error
    must(heard === 'a part', `the answers end at byte ${bytes.length}, too early`)
    return
  }
  const more = bytes.length - reading.at
  must(more === 0, `${more} bytes were answered that nobody asked for`)
}

/** The next bytes, which have to be there. */
function take(reading: Reading, length: number): Buffer {
  const { bytes, at } = reading
  if (bytes.length - at < length) throw new CutShort()
  reading.at = at + length
  return bytes.subarray(at, at + length)
}

function greeting(reading: Reading): void {
  const bytes = take(reading, 18)
  const text = bytes.toString('latin1', 0, 16)
  must(text === 'NBDMAGICIHAVEOPT' && bytes.readUInt16BE(16) === 3, 'the greeting is wrong')
}

function oldReply(reading: Reading, { size, bytes: length }: OldAnswer): void {
  const bytes = take(reading, length)
  must(bytes.readBigUInt64BE(0) === BigInt(size), 'the size is wrong')
  must((bytes.readUInt16BE(8) & 1) === 1, 'the flags are wrong')
  must(isZeroes(bytes.subarray(10)), 'zeroes are none')
}

const typeOf = { server: 2, info: 3, context: 4, nothing: 0 } as const

function optionReply(reading: Reading, { option, ends, before }: OptionAnswer): void {
  for (;;) {
    const head = take(reading, 20)
    must(head.readBigUInt64BE(0) === 0x3e889045565a9n, 'a reply to an option has the wrong magic')
    must(head.readUInt32BE(8) === option, 'a reply is to another option')
    const type = head.readUInt32BE(12)
    const data = take(reading, head.readUInt32BE(16))
    if (type >= 0x8000_0000) {
      must(ends === 'error' && type <= 0x8000_0009, `option ${option} is refused: ${type}`)
      return
    }
    if (type === 1) {
      must(ends === 'ack' && data.length === 0, `option ${option} is not refused`)
      return
    }
    must(ends === 'ack' && type === typeOf[before], `a reply of type ${type} to option ${option}`)
    if (type === 2) must(data.readUInt32BE(0) <= data.length - 4, 'a name is cut off')
    if (type === 3) infoReply(data)
    if (type === 4) must(data.toString('latin1', 4) === 'base:allocation', 'another context')
  }
}

const infoBytes: readonly number[] = [12, 0, 0, 14]

function infoReply(data: Buffer): void {
  const length = infoBytes[data.readUInt16BE(0)]
  must(length !== undefined && (length === 0 || data.length === length), 'an information is wrong')
}

function reply(reading: Reading, answer: Answer): void {
  if (reading.model.structured) chunk(reading, answer)
  else {
    const head = take(reading, 16)
    must(head.readUInt32BE(0) === 0x67446698, 'a reply has the wrong magic')
    outcome(answer, head.subarray(8), head.readUInt32BE(4))
    if (!answer.failed && answer.kind === 'data')
      data(reading, answer, take(reading, answer.length))
  }
}

function outcome({ cookie, failed, offset, length }: Answer, found: Buffer, error: number): void {
  must(found.toString('hex', 0, 8) === cookie, 'a reply is to another request')
  const what = `a request of ${length} bytes at ${offset}`
  must(failed === (error !== 0), `${what} ${failed ? 'is carried out' : `fails with ${error}`}`)
}

function chunk(reading: Reading, answer: Answer): void {
  const start = take(reading, 16)
  if (start.readUInt32BE(0) === 0x67446698) {
    must(answer.kind === 'nothing' && !answer.failed, 'a simple reply where chunks are due')
    outcome(answer, start.subarray(8), start.readUInt32BE(4))
    return
  }
  must(start.readUInt32BE(0) === 0x668e33ef, 'a chunk has the wrong magic')
  const payload = take(reading, take(reading, 4).readUInt32BE(0))
  const type = start.readUInt16BE(6)
  must(start.readUInt16BE(4) === 1, 'a reply has several chunks')
  outcome(answer, start.subarray(8), type >= 0x8000 ? payload.readUInt32BE(0) : 0)
  if (type === 0x8001) {
    must(payload.readUInt16BE(4) === payload.length - 6, 'a message is cut off')
    return
  }
  must(type === (answer.kind === 'data' ? 1 : 5), `a chunk of type ${type}`)
  if (type === 5) status(answer, payload)
  else {
    must(payload.readBigUInt64BE(0) === BigInt(answer.offset), 'data are from elsewhere')
    data(reading, answer, payload.subarray(8))
  }
}

function data({ model }: Reading, answer: Answer, found: Buffer): void {
  const { offset, length, before } = answer
  must(found.length === length, 'there are more data, or fewer')
  if (found.equals(answer.data!)) return
  const later = model.changes
    .slice(before)
    .some((each) => each.offset < offset + length && offset < each.offset + each.length)
  must(later && length > copiedMax, `a read of ${length} bytes at ${offset} has other bytes`)
}

function status({ length, data: content, one }: Answer, payload: Buffer): void {
  must(payload.length >= 12 && payload.length % 8 === 4, 'a status has a strange length')
  must(payload.readUInt32BE(0) === 1, 'a status of another context')
  must(!one || payload.length === 12, 'one run was asked for')
  let from = 0
  for (let at = 4; at < payload.length; at += 8) {
    const run = payload.readUInt32BE(at)
    const state = payload.readUInt32BE(at + 4)
    must(run > 0 && from + run <= length && state <= 3, 'a run makes no sense')
    const isZero = state < 2 || isZeroes(content!.subarray(from, from + run))
    must(isZero, 'a run of zeroes is none')
    from += run
  }
}
