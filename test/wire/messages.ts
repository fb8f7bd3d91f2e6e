import type { Facts } from '../../src/device/device.ts'
import {
  Command,
  encodeReply,
  encodeRequest,
  Kind,
  newReplyHeader,
  newRequestHeader,
  replyBytes,
  requestBytes,
  type ReplyHeader,
  type RequestHeader,
} from '../../src/wire/codec.ts'
import {
  encodeFacts,
  encodeHello,
  encodeListing,
  encodeWelcome,
  factsBytes,
  Feature,
  Purpose,
  type Hello,
  type Listing,
  type Welcome,
  type WireFacts,
} from '../../src/wire/hello.ts'
import { statusOf } from '../../src/wire/status.ts'

/** One message of every kind: `docs/protocol.md` shows their bytes. */

export const exampleHello: Hello = {
  purpose: Purpose.attach,
  index: 1,
  features: Feature.checksums,
  client: '000102030405060708090a0b0c0d0e0f',
  epoch: 7,
  claim: 5_000_000_000,
  depth: 128,
  name: 'home',
}

const facts: Facts = {
  size: 268_435_456,
  blockSize: 512,
  preferredBlockSize: 4096,
  payloadMax: 33_554_432,
  readOnly: false,
  flush: 'native',
  fua: 'native',
  trim: 'none',
  writeZeroes: 'native',
  fastZero: true,
  status: 'native',
  rotational: true,
  identity: '101112131415161718191a1b1c1d1e1f',
  bootId: '202122232425262728292a2b2c2d2e2f',
}

export const exampleFacts: WireFacts = { facts, word: 'online' }

export const exampleWelcome: Welcome = {
  status: 0,
  depth: 128,
  features: Feature.checksums,
  instance: '303132333435363738393a3b3c3d3e3f',
  facts: exampleFacts,
  text: '',
}

export const exampleRefusal: Welcome = {
  status: statusOf('CONFIG'),
  depth: 0,
  features: 0,
  instance: '303132333435363738393a3b3c3d3e3f',
  facts: null,
  text: 'there is no export "home"',
}

export const exampleListing: readonly Listing[] = [
  { name: 'home', description: 'a mirror', size: 268_435_456, readOnly: false, usable: true },
  { name: 'left', description: '', size: 4096, readOnly: true, usable: false },
]

const payload = Buffer.from('DST!')

export interface HeaderExample<Header> {
  readonly header: Header
  readonly checksums: boolean
  readonly payload: Buffer
}

const none = Buffer.alloc(0)

function requestExample(changes: Partial<RequestHeader>, body = none, checksums = false) {
  const header = { ...newRequestHeader(), payload: body.length, ...changes }
  return { header, checksums, payload: body }
}

function replyExample(changes: Partial<ReplyHeader>, body = none, checksums = false) {
  const header = { ...newReplyHeader(), kind: Kind.reply, payload: body.length, ...changes }
  return { header, checksums, payload: body }
}

const at = { slot: 3, sequence: 0x01020304 }
const control = { slot: 0xffff, sequence: 9 }
const range = { offset: 0x1_2345_6000, length: 8192 }
const crcOfPayload = 0xc9760891

export const exampleRequests: Readonly<Record<string, HeaderExample<RequestHeader>>> = {
  read: requestExample({ command: Command.read, ...at, ...range }),
  write: requestExample({ command: Command.write, flags: 1, ...at, ...range, length: 4 }, payload),
  'write-checksums': requestExample(
    { command: Command.write, ...at, ...range, length: 4, payloadChecksum: crcOfPayload },
    payload,
    true,
  ),
  flush: requestExample({ command: Command.flush, ...at }),
  trim: requestExample({ command: Command.trim, ...at, ...range }),
  'write-zeroes': requestExample({ command: Command.writeZeroes, flags: 6, ...at, ...range }),
  status: requestExample({ command: Command.status, ...at, ...range }),
  stamp: requestExample({ command: Command.stamp, ...control }),
  claim: requestExample({ command: Command.claim, ...control, offset: 5_000_000_000 }),
  claimed: requestExample({ command: Command.claimed, ...control }),
  ping: requestExample({ command: Command.ping, slot: 0xffff, sequence: 1 }),
  pong: requestExample({ command: Command.pong, slot: 0xffff, sequence: 1 }),
}

const runs = Buffer.from('0010000000000000' + '0010000003000000', 'hex')
const factsBlock = Buffer.alloc(factsBytes)
encodeFacts(factsBlock, 0, exampleFacts)

export const exampleReplies: Readonly<Record<string, HeaderExample<ReplyHeader>>> = {
  'reply-done': replyExample(at),
  'reply-read': replyExample(at, payload),
  'reply-read-checksums': replyExample({ ...at, payloadChecksum: crcOfPayload }, payload, true),
  'reply-status': replyExample(at, runs),
  'reply-failed': replyExample(
    { ...at, status: statusOf('NO_SPACE') },
    Buffer.from('disk is full'),
  ),
  'reply-stamp': replyExample(control, Buffer.from('1764000000:42')),
  'reply-claimed': replyExample(control, Buffer.from('0 5000000000')),
  'server-ping': replyExample({ kind: Kind.ping, sequence: 1 }),
  'server-pong': replyExample({ kind: Kind.pong, slot: 0xffff, sequence: 1 }),
  facts: replyExample({ kind: Kind.facts }, factsBlock),
  fenced: replyExample({ kind: Kind.fenced }, Buffer.from('5000000000')),
}

/** The bytes of every example, by the name that the document gives it. */
export function exampleBytes(): Map<string, Buffer> {
  const all = new Map<string, Buffer>([
    ['hello', encodeHello(exampleHello)],
    ['welcome', encodeWelcome(exampleWelcome)],
    ['refusal', encodeWelcome(exampleRefusal)],
    ['listing', encodeListing(exampleListing)],
  ])
  for (const [name, example] of Object.entries(exampleRequests)) {
    const bytes = Buffer.alloc(requestBytes)
    encodeRequest(bytes, 0, example.header, example.checksums)
    all.set(name, Buffer.concat([bytes, example.payload]))
  }
  for (const [name, example] of Object.entries(exampleReplies)) {
    const bytes = Buffer.alloc(replyBytes)
    encodeReply(bytes, 0, example.header, example.checksums)
    all.set(name, Buffer.concat([bytes, example.payload]))
  }
  return all
}
