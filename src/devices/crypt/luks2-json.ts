import { isObject } from '../../base/guards.ts'
import { MiB } from '../../base/size.ts'
import {
  checkKdf,
  cipher,
  HeaderFault,
  isFault,
  iterationsMax,
  must,
  mustSupport,
  parsed,
  saltBytesMax,
  uuidPattern,
  type Header,
  type Kdf,
  type KeyDigest,
  type Keyslot,
} from './header.ts'
import { digestBytes, isHash, stripes, type Hash } from './splitter.ts'

/** The JSON of a LUKS2 header: which keyslots, digests and segments there are. */

/** The JSON as it was read: what we do not know of is kept when it is written again. */
export type Json = Readonly<Record<string, unknown>>

/** Keyslots that a header may have, and entries of any other kind. */
export const keyslotsMax = 32
const entriesMax = 32
/** Bytes that the keyslots of a header may take: others have no more either. */
const areasBytesMax = 128 * MiB

/** The fields of a copy that the JSON has to fit. */
interface Around {
  readonly copyBytes: number
  readonly uuid: string
}

/** Reads the JSON of a copy. Throws a HeaderFault. */
export function parseMetadata(json: Json, { copyBytes, uuid }: Around): Header {
  must(uuidPattern.test(uuid), 'the uuid makes no sense')
  const config = objectOf(json, 'config')
  const areasBytes = numberOf(config, 'keyslots_size')
  must(areasBytes <= areasBytesMax, `${areasBytes} bytes of keyslots are more than there can be`)
  must(numberOf(config, 'json_size') === copyBytes - 4096, 'its JSON has another size')
  checkRequirements(config)
  const areas = { from: 2 * copyBytes, to: 2 * copyBytes + areasBytes }
  const [segmentId, segment] = onlySegment(json)
  const { payload, size, sectorBytes, firstSector } = segment
  must(payload >= areas.to, 'the data begin within the keyslots')
  const [digest, slotIds] = digestOf(json, segmentId)
  const keyslots = keyslotsOf(json, areas).filter(({ id }) => slotIds.has(String(id)))
  const keyBytes = keyslots[0]?.keyBytes ?? 64
  must(
    keyslots.every((slot) => slot.keyBytes === keyBytes),
    'its keyslots have keys of different lengths',
  )
  const data = { payload, size, sectorBytes, firstSector }
  return { format: 'luks2', uuid, keyBytes, ...data, digest, keyslots }
}

/** Refuses a device that is being changed step by step, or that needs what we do not know. */
function checkRequirements(config: Json): void {
  const { requirements } = config
  if (requirements === undefined) return
  must(isObject(requirements), 'its requirements make no sense')
  const { mandatory } = requirements
  if (mandatory === undefined) return
  must(Array.isArray(mandatory), 'its requirements make no sense')
  const first: unknown = mandatory[0]
  mustSupport(first === undefined, `it needs ${typeof first === 'string' ? first : 'more'}`)
}

type Segment = Pick<Header, 'payload' | 'size' | 'sectorBytes' | 'firstSector'>

function onlySegment(json: Json): readonly [id: string, segment: Segment] {
  const segments = entriesOf(json, 'segments')
  must(segments.length > 0, 'it has no segment')
  mustSupport(segments.length === 1, 'it has more segments than one')
  const [id, segment] = segments[0]!
  mustSupport(segment['type'] === 'crypt', 'its segment is of another kind')
  const { encryption, integrity, flags, size } = segment
  mustSupport(encryption === cipher, `only the cipher ${cipher} is known`)
  mustSupport(integrity === undefined, 'checksums of its sectors are not known')
  mustSupport(flags === undefined || isEmptyList(flags), 'its segment has flags')
  const sectorBytes = segment['sector_size']
  must(
    sectorBytes === 512 || sectorBytes === 1024 || sectorBytes === 2048 || sectorBytes === 4096,
    'the size of its sectors makes no sense',
  )
  const payload = numberOf(segment, 'offset')
  must(payload % sectorBytes === 0, 'the data begin within a sector')
  const bytes = size === 'dynamic' ? null : numberOf(segment, 'size')
  must(bytes === null || (bytes > 0 && bytes % sectorBytes === 0), 'the data end within a sector')
  const firstSector = numberOf(segment, 'iv_tweak')
  must(firstSector <= 2 ** 52, 'the number of its first sector makes no sense')
  return [id, { payload, size: bytes, sectorBytes, firstSector }]
}

function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0
}

/** The digest of the segment's key, and the keyslots that have that key. */
function digestOf(json: Json, segment: string): readonly [KeyDigest, ReadonlySet<string>] {
  const digests = entriesOf(json, 'digests').filter(([, digest]) =>
    listOf(digest, 'segments').includes(segment),
  )
  must(digests.length === 1, 'it has no digest of its key, or several')
  const [, digest] = digests[0]!
  mustSupport(digest['type'] === 'pbkdf2', 'its digest is of another kind')
  const hash = hashOf(digest)
  const iterations = wholeOf(digest, 'iterations')
  must(iterations > 0, 'the digest of the key has no iterations')
  mustSupport(iterations <= iterationsMax, `${iterations} iterations take too long`)
  const value = bytesOf(digest, 'digest')
  must(value.length >= 16 && value.length <= digestBytes[hash], 'its digest has a wrong length')
  const salt = bytesOf(digest, 'salt')
  must(salt.length >= 8, 'a salt has a wrong length')
  return [{ hash, iterations, salt, value }, new Set(listOf(digest, 'keyslots'))]
}

/** Bytes of the device below: `from` inclusive, `to` exclusive. */
export interface Range {
  readonly from: number
  readonly to: number
}

/** The bytes of every keyslot by its number, also of those that we cannot use. */
export function areasOf(json: Json, within: Range): ReadonlyMap<number, Range> {
  const areas = entriesOf(json, 'keyslots').map(([id, slot]) => {
    must(/^\d{1,2}$/.test(id) && Number(id) < keyslotsMax, 'a keyslot has no number')
    const area = objectOf(slot, 'area')
    const from = numberOf(area, 'offset')
    const to = from + numberOf(area, 'size')
    must(from >= within.from && to > from && to <= within.to, `the keyslot ${id} lies elsewhere`)
    return [Number(id), { from, to }] as const
  })
  const inOrder = areas.map(([, area]) => area).toSorted((one, other) => one.from - other.from)
  for (const [at, { to }] of inOrder.entries())
    must(to <= (inOrder[at + 1]?.from ?? Infinity), 'its keyslots overlap')
  return new Map(areas)
}

/** The keyslots that we can use: one of another kind takes none of the others away. */
function keyslotsOf(json: Json, within: Range): readonly Keyslot[] {
  const areas = areasOf(json, within)
  return entriesOf(json, 'keyslots').flatMap(([id, slot]) => {
    const found = parsed(() => keyslotOf(Number(id), slot, areas.get(Number(id))!))
    if (!isFault(found)) return [found]
    if (found.kind === 'unsupported') return []
    throw new HeaderFault('damaged', `keyslot ${id}: ${found.reason}`)
  })
}

function keyslotOf(id: number, slot: Json, { from, to }: Range): Keyslot {
  mustSupport(slot['type'] === 'luks2', 'it is of another kind')
  const keyBytes = wholeOf(slot, 'key_size')
  mustSupport(keyBytes === 32 || keyBytes === 64, `a key of ${keyBytes} bytes is not for this`)
  const af = objectOf(slot, 'af')
  mustSupport(af['type'] === 'luks1', 'its splitter is of another kind')
  must(wholeOf(af, 'stripes') === stripes, 'it has another number of stripes')
  const area = objectOf(slot, 'area')
  mustSupport(area['type'] === 'raw' && area['encryption'] === cipher, `not ${cipher}`)
  const areaKeyBytes = wholeOf(area, 'key_size')
  mustSupport(areaKeyBytes === 32 || areaKeyBytes === 64, `a key of ${areaKeyBytes} bytes`)
  must(to - from >= keyBytes * stripes, 'it has too little room')
  const kdf = kdfOf(objectOf(slot, 'kdf'))
  const { priority = 1 } = slot
  must(priority === 0 || priority === 1 || priority === 2, 'its priority makes no sense')
  const place = { offset: from, reserved: to - from }
  return { id, kdf, hash: hashOf(af), keyBytes, ...place, areaKeyBytes, priority }
}

function kdfOf(description: Json): Kdf {
  const kind = description['type']
  const salt = bytesOf(description, 'salt')
  let kdf: Kdf
  if (kind === 'pbkdf2')
    kdf = { kind, hash: hashOf(description), iterations: wholeOf(description, 'iterations'), salt }
  else if (kind === 'argon2id' || kind === 'argon2i') {
    const memory = wholeOf(description, 'memory') * 1024
    const [passes, lanes] = [wholeOf(description, 'time'), wholeOf(description, 'cpus')]
    kdf = { kind, passes, memory, lanes, salt }
  } else throw new HeaderFault('unsupported', 'a keyslot derives its key in another way')
  checkKdf(kdf)
  return kdf
}

/** The named objects of an object; each is an object. */
function entriesOf(json: Json, name: string): readonly (readonly [id: string, value: Json])[] {
  const entries = Object.entries(objectOf(json, name))
  must(entries.length <= entriesMax, `it has too many ${name}`)
  return entries.map(([id, value]) => {
    must(isObject(value), `one of its ${name} makes no sense`)
    return [id, value] as const
  })
}

function objectOf(json: Json, name: string): Json {
  const value = Object.hasOwn(json, name) ? json[name] : undefined
  must(isObject(value), `its ${name} is missing`)
  return value
}

/** A list of names. */
function listOf(json: Json, name: string): readonly string[] {
  const value = json[name]
  must(Array.isArray(value) && value.length <= entriesMax, `a list of ${name} is missing`)
  return value.map((each: unknown) => {
    must(typeof each === 'string' && each.length <= 20, `a list of ${name} makes no sense`)
    return each
  })
}

/** A number of 64 bits, which JSON has as a text. */
function numberOf(json: Json, name: string): number {
  const value = json[name]
  const number = typeof value === 'string' && /^\d{1,16}$/.test(value) ? Number(value) : NaN
  must(Number.isSafeInteger(number), `${name} is no number`)
  return number
}

function wholeOf(json: Json, name: string): number {
  const value = json[name]
  must(typeof value === 'number' && Number.isInteger(value), `${name} is no number`)
  must(value >= 0 && value <= 0xffff_ffff, `${name} is out of range`)
  return value
}

function hashOf(json: Json): Hash {
  const { hash } = json
  mustSupport(typeof hash === 'string' && isHash(hash), 'a hash is not known')
  return hash
}

function bytesOf(json: Json, name: string): Buffer {
  const value = json[name]
  const most = Math.ceil(saltBytesMax / 3) * 4
  must(typeof value === 'string' && value.length <= most, `${name} is missing`)
  must(/^[A-Za-z0-9+/]+={0,2}$/.test(value), `${name} makes no sense`)
  return Buffer.from(value, 'base64')
}
