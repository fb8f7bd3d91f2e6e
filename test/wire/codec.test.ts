import { expect } from 'chai'
import fc from 'fast-check'
import { readFileSync } from 'node:fs'
import zlib from 'node:zlib'
import { codes } from '../../src/base/errors.ts'
import type { Ability } from '../../src/device/device.ts'
import {
  decodeReply,
  decodeRequest,
  encodeReply,
  encodeRequest,
  newReplyHeader,
  newRequestHeader,
  replyBytes,
  requestBytes,
} from '../../src/wire/codec.ts'
import {
  decodeFacts,
  decodeHello,
  decodeListing,
  decodePreface,
  decodeWelcome,
  encodeFacts,
  encodeHello,
  encodeListing,
  encodeWelcome,
  factsBytes,
  textBytesMax,
  type WireFacts,
} from '../../src/wire/hello.ts'
import { codeOf, statusOf } from '../../src/wire/status.ts'
import {
  exampleBytes,
  exampleHello,
  exampleListing,
  exampleRefusal,
  exampleReplies,
  exampleRequests,
  exampleWelcome,
} from './messages.ts'

/** The bytes that the document shows, by name. */
function documented(): Map<string, Buffer> {
  const text = readFileSync('docs/protocol.md', 'utf8')
  const found = new Map<string, Buffer>()
  for (const [, name, hex] of text.matchAll(/^```hex ([a-z-]+)\n([^`]*)```/gm))
    found.set(name!, Buffer.from(hex!.replaceAll(/\s/g, ''), 'hex'))
  return found
}

describe('the bytes of DST/1', () => {
  const golden = documented()

  it('are those of the document, for every message', () => {
    const made = exampleBytes()
    expect([...golden.keys()].sort()).to.deep.equal([...made.keys()].sort())
    for (const [name, bytes] of made)
      expect(bytes.toString('hex'), name).to.equal(golden.get(name)!.toString('hex'))
  })

  it('are read as what they were written for', () => {
    for (const [name, { header, checksums }] of Object.entries(exampleRequests)) {
      const decoded = newRequestHeader()
      expect(decodeRequest(golden.get(name)!, 0, decoded, checksums), name).to.equal(null)
      expect(decoded, name).to.deep.equal(header)
    }
    for (const [name, { header, checksums }] of Object.entries(exampleReplies)) {
      const decoded = newReplyHeader()
      expect(decodeReply(golden.get(name)!, 0, decoded, checksums), name).to.equal(null)
      expect(decoded, name).to.deep.equal(header)
    }
    const whole = (name: string): [Buffer, number, number] => {
      const bytes = golden.get(name)!
      return [bytes, 0, bytes.length]
    }
    expect(decodeHello(...whole('hello'))).to.deep.equal(exampleHello)
    expect(decodeWelcome(...whole('welcome'))).to.deep.equal(exampleWelcome)
    expect(decodeWelcome(...whole('refusal'))).to.deep.equal(exampleRefusal)
    expect(decodeListing(golden.get('listing')!)).to.deep.equal(exampleListing)
  })

  it('carry the checksum of the payload', () => {
    const example = exampleRequests['write-checksums']!
    expect(example.header.payloadChecksum).to.equal(zlib.crc32(example.payload))
  })

  it('give every code a number of its own, both ways', () => {
    expect(new Set(codes.map(statusOf)).size).to.equal(codes.length)
    for (const code of codes) expect(codeOf(statusOf(code))).to.equal(code)
    expect(codeOf(250)).to.equal('IO')
  })
})

const u8 = fc.nat(0xff)
const u16 = fc.nat(0xffff)
const u32 = fc.nat(0xffff_ffff)
const u53 = fc.maxSafeNat()
const id = fc
  .uint8Array({ minLength: 16, maxLength: 16 })
  .map((bytes) => Buffer.from(bytes).toString('hex'))
const name = fc.string({ unit: 'grapheme', maxLength: 40 })

const requests = fc.record({
  command: u8,
  flags: u8,
  slot: u16,
  sequence: u32,
  offset: u53,
  length: u32,
  payload: u32,
  payloadChecksum: u32,
})
const replies = fc.record({
  kind: u8,
  status: u8,
  slot: u16,
  sequence: u32,
  payload: u32,
  payloadChecksum: u32,
})
const ability = fc.constantFrom<Ability>('none', 'emulated', 'native')
const facts: fc.Arbitrary<WireFacts> = fc
  .record({
    blocks: fc.nat(0xffff_ffff),
    shift: fc.nat(12),
    preferred: fc.nat(20),
    readOnly: fc.boolean(),
    flush: ability,
    fua: ability,
    trim: ability,
    writeZeroes: ability,
    fastZero: fc.boolean(),
    status: ability,
    rotational: fc.boolean(),
    identity: id,
    bootId: id,
    word: fc.constantFrom('online', 'degraded', 'offline'),
  })
  .map(({ blocks, shift, preferred, word, ...rest }) => ({
    word,
    facts: {
      ...rest,
      size: blocks * 2 ** shift,
      blockSize: 2 ** shift,
      preferredBlockSize: 2 ** preferred,
      payloadMax: 4096 * 8,
    },
  }))

describe('the codec of DST/1', () => {
  it('reads back every header, at any index, with and without checksums', () => {
    const property = fc.property(requests, replies, fc.nat(40), (request, reply, at) => {
      const bytes = Buffer.alloc(at + requestBytes + replyBytes)
      const decodedRequest = newRequestHeader()
      const decodedReply = newReplyHeader()
      encodeRequest(bytes, at, request, true)
      encodeReply(bytes, at + requestBytes, reply, true)
      expect(decodeRequest(bytes, at, decodedRequest, true)).to.equal(null)
      expect(decodeReply(bytes, at + requestBytes, decodedReply, true)).to.equal(null)
      expect(decodedRequest).to.deep.equal(request)
      expect(decodedReply).to.deep.equal(reply)
      const plain = { ...request, payloadChecksum: 0 }
      encodeRequest(bytes, at, plain, false)
      expect(decodeRequest(bytes, at, decodedRequest, false)).to.equal(null)
      expect(decodedRequest).to.deep.equal(plain)
    })
    fc.assert(property)
  })

  it('notices every flipped bit of a header with a checksum', () => {
    const property = fc.property(requests, fc.nat(requestBytes * 8 - 1), (request, bit) => {
      const bytes = Buffer.alloc(requestBytes)
      encodeRequest(bytes, 0, request, true)
      bytes[bit >> 3]! ^= 1 << (bit & 7)
      expect(decodeRequest(bytes, 0, newRequestHeader(), true)).to.equal('checksum')
    })
    fc.assert(property)
  })

  it('reads back every first message', () => {
    const hellos = fc.record({
      purpose: u8,
      index: u16,
      features: u32,
      client: id,
      epoch: u32,
      claim: u53,
      depth: u32,
      name,
    })
    const hello = fc.property(hellos, (message) => {
      const bytes = encodeHello(message)
      const preface = decodePreface(bytes, 0)
      expect(typeof preface === 'string' ? preface : preface.length + 16).to.equal(bytes.length)
      expect(decodeHello(bytes, 0, bytes.length)).to.deep.equal(message)
    })
    fc.assert(hello)
    const welcome = fc.property(facts, id, u32, name, (offered, instance, features, text) => {
      const message = { status: 0, depth: 5, features, instance, facts: offered, text }
      const bytes = encodeWelcome(message)
      expect(decodeWelcome(bytes, 0, bytes.length)).to.deep.equal(message)
    })
    fc.assert(welcome)
    const entries = fc.array(
      fc.record({
        name,
        description: name,
        size: u53,
        readOnly: fc.boolean(),
        usable: fc.boolean(),
      }),
      { maxLength: 10 },
    )
    fc.assert(
      fc.property(entries, (listing) => {
        expect(decodeListing(encodeListing(listing))).to.deep.equal(listing)
      }),
    )
  })

  it('never throws at noise, nor at a message cut short or changed', () => {
    const valid = [...exampleBytes().values()]
    const noise = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes))
    const mutated = fc
      .tuple(fc.constantFrom(...valid), fc.array(fc.tuple(fc.nat(400), u8)), fc.nat(400))
      .map(([bytes, changes, length]) => {
        const copy = Buffer.from(bytes).subarray(0, length)
        for (const [at, value] of changes) if (at < copy.length) copy[at] = value
        return copy
      })
    const property = fc.property(fc.oneof(noise, mutated), (bytes) => {
      decodeHello(bytes, 0, bytes.length)
      decodeWelcome(bytes, 0, bytes.length)
      decodeListing(bytes)
      if (bytes.length >= 16) decodePreface(bytes, 0)
      if (bytes.length >= factsBytes) decodeFacts(bytes, 0)
      for (const checksums of [true, false]) {
        if (bytes.length >= requestBytes) decodeRequest(bytes, 0, newRequestHeader(), checksums)
        if (bytes.length >= replyBytes) decodeReply(bytes, 0, newReplyHeader(), checksums)
      }
    })
    fc.assert(property, { numRuns: 1000 })
  })

  it('refuses facts that no device can have', () => {
    const good = exampleWelcome.facts!
    const changes: Partial<WireFacts['facts']>[] = [
      { blockSize: 0 },
      { blockSize: 3 },
      { preferredBlockSize: 5000 },
      { size: 1000 },
      { payloadMax: 0 },
      { payloadMax: 5000 },
    ]
    for (const change of changes) {
      const bytes = Buffer.alloc(factsBytes)
      encodeFacts(bytes, 0, { ...good, facts: { ...good.facts, ...change } })
      expect(decodeFacts(bytes, 0), JSON.stringify(change)).to.equal(null)
    }
  })

  it('cuts a long sentence where a character ends', () => {
    const bytes = encodeWelcome({ ...exampleRefusal, text: 'a' + 'é'.repeat(textBytesMax) })
    const welcome = decodeWelcome(bytes, 0, bytes.length)
    if (typeof welcome === 'string') throw new Error(welcome)
    expect(welcome.text).to.match(/^aé+$/)
  })
})
