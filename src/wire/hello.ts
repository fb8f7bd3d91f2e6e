import { isPowerOfTwo } from '../base/guards.ts'
import { KiB, MiB } from '../base/size.ts'
import { blockBytesMax } from '../base/slab.ts'
import type { Ability, Facts } from '../device/device.ts'
import { nameBytesMax } from '../net/address.ts'
import { checksum, readUint64, writeUint64 } from './codec.ts'

/**
 * The first message each way, as `docs/protocol.md` describes it. Both begin with the same 16
 * bytes: magic, versions, length of what follows. Pure, and never throwing at what a peer sent.
 */

/** `DST1`, then bytes that a transfer as text would change. */
const magic = Buffer.from([0x44, 0x53, 0x54, 0x31, 0x0d, 0x0a, 0x1a, 0x00])

export const version = 1
export const prefaceBytes = 16
const helloFixedBytes = 72
const welcomeFixedBytes = 112
const listingFixedBytes = 24
export const factsBytes = 64
const entryFixedBytes = 16

/** The most bytes after the preface of a hello: the name is the only part that varies. */
export const helloBytesMax = helloFixedBytes - prefaceBytes + nameBytesMax
/** The most bytes of a sentence for people: in a welcome that refuses, in a reply that failed. */
export const textBytesMax = 1 * KiB
export const welcomeBytesMax = welcomeFixedBytes - prefaceBytes + textBytesMax
/** The most bytes after the preface of a listing. */
export const listingBytesMax = 16 * MiB

/** Bytes of the largest block, as in NBD: one has to fit into a step of writing zeroes. */
const blockSizeMax = 64 * KiB

/**
 * Bits of `features`. `fencing`: a session that was outbid may not read, and is told at once.
 * `memory`: the welcome says which session it is, so that a client learns when its session was
 * forgotten.
 */
export const Feature = { checksums: 1, fencing: 2, memory: 4 } as const
export const featuresKnown = Feature.checksums | Feature.fencing | Feature.memory

/** What a connection is for. */
export const Purpose = { attach: 1, list: 2 } as const

/** Why a first message is refused. */
export type HelloFault = 'magic' | 'version' | 'length' | 'checksum' | 'content'

/** The beginning of both first messages. */
export interface Preface {
  /** From the client the lowest and the highest it speaks; from the server the one it chose. */
  versionMin: number
  versionMax: number
  /** Bytes that follow. */
  length: number
}

/** The first message of a client. */
export interface Hello {
  readonly purpose: number
  /** Which of the session's connections this is: 0 comes first. */
  readonly index: number
  readonly features: number
  /** 32 hex digits, chosen anew by every client that starts. */
  readonly client: string
  /** Rises with every reconnect. */
  readonly epoch: number
  /** The writer's claim; 0: none. */
  readonly claim: number
  /** Requests the client would like to have in flight on this connection. */
  readonly depth: number
  readonly name: string
}

/** The answer to a hello. */
export interface Welcome {
  /** As in a reply. If it is not 0, only `text` says something. */
  readonly status: number
  /** Requests the client may have in flight on this connection. */
  readonly depth: number
  readonly features: number
  /** 32 hex digits that change when the serving process does. */
  readonly instance: string
  /** Null when the status is not 0. */
  readonly facts: WireFacts | null
  /** Why it is refused, for people; with `memory`, the number of the session that goes on. */
  readonly text: string
}

/** Facts as a server tells them, and whether the device is usable at the moment. */
export interface WireFacts {
  readonly facts: Facts
  readonly word: 'online' | 'degraded' | 'offline'
}

/** An export, as a listing tells it. */
export interface Listing {
  readonly name: string
  readonly description: string
  /** Bytes; 0 when it is not known. */
  readonly size: number
  readonly readOnly: boolean
  /** True when requests would be carried out now. */
  readonly usable: boolean
}

function encodePreface(bytes: Buffer, versionMin: number, versionMax: number): void {
  magic.copy(bytes, 0)
  bytes.writeUInt16LE(versionMin, 8)
  bytes.writeUInt16LE(versionMax, 10)
  bytes.writeUInt32LE(bytes.length - prefaceBytes, 12)
}

/** Reads 16 bytes at `at`. The versions are for the caller to compare with its own. */
export function decodePreface(bytes: Buffer, at: number): Preface | HelloFault {
  if (bytes.compare(magic, 0, magic.length, at, at + magic.length) !== 0) return 'magic'
  return {
    versionMin: bytes.readUInt16LE(at + 8),
    versionMax: bytes.readUInt16LE(at + 10),
    length: bytes.readUInt32LE(at + 12),
  }
}

/** The first message of a client. */
export function encodeHello(hello: Hello): Buffer {
  const name = Buffer.from(hello.name)
  const bytes = Buffer.alloc(helloFixedBytes + name.length)
  encodePreface(bytes, version, version)
  bytes[16] = hello.purpose
  bytes.writeUInt16LE(hello.index, 18)
  bytes.writeUInt32LE(hello.features, 20)
  bytes.write(hello.client, 24, 16, 'hex')
  bytes.writeUInt32LE(hello.epoch, 40)
  bytes.writeUInt32LE(hello.depth, 44)
  writeUint64(bytes, 48, hello.claim)
  bytes.writeUInt16LE(name.length, 56)
  name.copy(bytes, helloFixedBytes)
  seal(bytes, 68)
  return bytes
}

/** Reads a whole hello, preface and all: `bytes` from `at` to `end`. */
export function decodeHello(bytes: Buffer, at: number, end: number): Hello | HelloFault {
  const length = end - at
  if (length < helloFixedBytes) return 'length'
  const nameLength = bytes.readUInt16LE(at + 56)
  if (length !== helloFixedBytes + nameLength || nameLength > nameBytesMax) return 'length'
  if (!sealed(bytes, at, end, 68)) return 'checksum'
  const claim = readUint64(bytes, at + 48)
  if (Number.isNaN(claim)) return 'content'
  return {
    purpose: bytes[at + 16]!,
    index: bytes.readUInt16LE(at + 18),
    features: bytes.readUInt32LE(at + 20),
    client: bytes.toString('hex', at + 24, at + 40),
    epoch: bytes.readUInt32LE(at + 40),
    depth: bytes.readUInt32LE(at + 44),
    claim,
    name: bytes.toString('utf8', at + helloFixedBytes, end),
  }
}

/** The answer to a hello, also one that refuses. */
export function encodeWelcome(welcome: Welcome): Buffer {
  const text = encodeText(welcome.text)
  const bytes = Buffer.alloc(welcomeFixedBytes + text.length)
  encodePreface(bytes, version, version)
  bytes[16] = welcome.status
  bytes.writeUInt16LE(welcome.depth, 18)
  bytes.writeUInt32LE(welcome.features, 20)
  bytes.write(welcome.instance, 24, 16, 'hex')
  if (welcome.facts !== null) encodeFacts(bytes, 40, welcome.facts)
  bytes.writeUInt16LE(text.length, 104)
  text.copy(bytes, welcomeFixedBytes)
  seal(bytes, 108)
  return bytes
}

/** Reads a whole welcome, preface and all. */
export function decodeWelcome(bytes: Buffer, at: number, end: number): Welcome | HelloFault {
  const length = end - at
  if (length < welcomeFixedBytes) return 'length'
  if (length !== welcomeFixedBytes + bytes.readUInt16LE(at + 104)) return 'length'
  if (!sealed(bytes, at, end, 108)) return 'checksum'
  const status = bytes[at + 16]!
  const facts = status === 0 ? decodeFacts(bytes, at + 40) : null
  const depth = bytes.readUInt16LE(at + 18)
  if (status === 0 && (facts === null || depth === 0)) return 'content'
  return {
    status,
    depth,
    features: bytes.readUInt32LE(at + 20),
    instance: bytes.toString('hex', at + 24, at + 40),
    facts,
    text: bytes.toString('utf8', at + welcomeFixedBytes, end),
  }
}

/** The answer to a hello that asks for the exports; those beyond `listingBytesMax` are left out. */
export function encodeListing(entries: readonly Listing[]): Buffer {
  const parts: Buffer[] = []
  let length = listingFixedBytes
  for (const entry of entries) {
    const name = Buffer.from(entry.name)
    const description = encodeText(entry.description)
    const fixed = Buffer.alloc(entryFixedBytes)
    writeUint64(fixed, 0, entry.size)
    fixed.writeUInt16LE(name.length, 8)
    fixed.writeUInt16LE(description.length, 10)
    fixed[12] = (entry.readOnly ? 1 : 0) | (entry.usable ? 2 : 0)
    const entryLength = entryFixedBytes + name.length + description.length
    if (length + entryLength > listingBytesMax) break
    length += entryLength
    parts.push(fixed, name, description)
  }
  const bytes = Buffer.alloc(length)
  encodePreface(bytes, version, version)
  bytes.writeUInt32LE(parts.length / 3, 16)
  let at = listingFixedBytes
  for (const part of parts) at += part.copy(bytes, at)
  seal(bytes, 20)
  return bytes
}

/** Reads a whole listing, preface and all. */
export function decodeListing(bytes: Buffer): readonly Listing[] | HelloFault {
  if (bytes.length < listingFixedBytes) return 'length'
  if (!sealed(bytes, 0, bytes.length, 20)) return 'checksum'
  const entries: Listing[] = []
  let at = listingFixedBytes
  for (let left = bytes.readUInt32LE(16); left > 0; left--) {
    if (bytes.length - at < entryFixedBytes) return 'length'
    const size = readUint64(bytes, at)
    const nameEnd = at + entryFixedBytes + bytes.readUInt16LE(at + 8)
    const end = nameEnd + bytes.readUInt16LE(at + 10)
    if (end > bytes.length) return 'length'
    if (Number.isNaN(size)) return 'content'
    const flags = bytes[at + 12]!
    entries.push({
      name: bytes.toString('utf8', at + entryFixedBytes, nameEnd),
      description: bytes.toString('utf8', nameEnd, end),
      size,
      readOnly: (flags & 1) !== 0,
      usable: (flags & 2) !== 0,
    })
    at = end
  }
  return at === bytes.length ? entries : 'length'
}

const abilities: readonly Ability[] = ['none', 'emulated', 'native']
const words = ['offline', 'online', 'degraded'] as const

/** Writes the 64 bytes of a facts block at `at`. */
export function encodeFacts(bytes: Buffer, at: number, { facts, word }: WireFacts): void {
  bytes.write(facts.identity, at, 16, 'hex')
  bytes.write(facts.bootId, at + 16, 16, 'hex')
  writeUint64(bytes, at + 32, facts.size)
  bytes.writeUInt32LE(facts.blockSize, at + 40)
  bytes.writeUInt32LE(facts.preferredBlockSize, at + 44)
  bytes.writeUInt32LE(facts.payloadMax, at + 48)
  const { flush, fua, trim, writeZeroes, status } = facts
  for (const [place, ability] of [flush, fua, trim, writeZeroes, status].entries())
    bytes[at + 52 + place] = abilities.indexOf(ability)
  bytes[at + 57] = (facts.readOnly ? 1 : 0) | (facts.rotational ? 2 : 0) | (facts.fastZero ? 4 : 0)
  bytes[at + 58] = words.indexOf(word)
  bytes.fill(0, at + 59, at + factsBytes)
}

/** Reads the 64 bytes of a facts block at `at`; null when no device can be like that. */
export function decodeFacts(bytes: Buffer, at: number): WireFacts | null {
  const size = readUint64(bytes, at + 32)
  const blockSize = bytes.readUInt32LE(at + 40)
  const preferredBlockSize = bytes.readUInt32LE(at + 44)
  const payloadMax = Math.min(bytes.readUInt32LE(at + 48), blockBytesMax)
  const [flush, fua, trim, writeZeroes, status] = [52, 53, 54, 55, 56].map(
    (from) => abilities[bytes[at + from]!],
  )
  const flags = bytes[at + 57]!
  const word = words[bytes[at + 58]!]
  if (!isPowerOfTwo(blockSize) || !isPowerOfTwo(preferredBlockSize)) return null
  if (blockSize > blockSizeMax) return null
  if (Number.isNaN(size) || size % blockSize !== 0) return null
  if (payloadMax < blockSize || payloadMax < 4 * KiB || payloadMax % blockSize !== 0) return null
  if (flush === undefined || fua === undefined || trim === undefined) return null
  if (writeZeroes === undefined || status === undefined || word === undefined) return null
  const facts: Facts = {
    size,
    blockSize,
    preferredBlockSize,
    payloadMax,
    readOnly: (flags & 1) !== 0,
    flush,
    fua,
    trim,
    writeZeroes,
    fastZero: (flags & 4) !== 0,
    status,
    rotational: (flags & 2) !== 0,
    identity: bytes.toString('hex', at, at + 16),
    bootId: bytes.toString('hex', at + 16, at + 32),
  }
  return { facts, word }
}

/** A sentence in at most `textBytesMax` bytes, cut where a character ends. */
export function encodeText(text: string): Buffer {
  const bytes = Buffer.from(text)
  if (bytes.length <= textBytesMax) return bytes
  let end = textBytesMax
  while ((bytes[end]! & 0xc0) === 0x80) end--
  return bytes.subarray(0, end)
}

/** Writes the checksum of all other bytes at `place`; first messages always have one. */
function seal(bytes: Buffer, place: number): void {
  const before = checksum(bytes, 0, place)
  bytes.writeUInt32LE(checksum(bytes, place + 4, bytes.length - place - 4, before), place)
}

/** True when the checksum at `place` is that of all other bytes from `at` to `end`. */
function sealed(bytes: Buffer, at: number, end: number, place: number): boolean {
  const before = checksum(bytes, at, place)
  const from = at + place + 4
  return bytes.readUInt32LE(at + place) === checksum(bytes, from, end - from, before)
}
