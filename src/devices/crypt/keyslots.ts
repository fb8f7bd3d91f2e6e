import { StorageError } from '../../base/errors.ts'
import { isObject } from '../../base/guards.ts'
import type { Random } from '../../base/random.ts'
import { MiB, roundUp } from '../../base/size.ts'
import type { Deriver } from './deriver.ts'
import { checkKdf, cipher, parsed, isFault, type Kdf, type Keyslot } from './header.ts'
import { luks1Bytes, luks1SlotsIn, withSlot } from './luks1.ts'
import { encodeCopy } from './luks2.ts'
import { areasOf, keyslotsMax, type Json, type Range } from './luks2-json.ts'
import type { Medium } from './medium.ts'
import { stripes } from './splitter.ts'
import { mustBeUnchanged, saveLuks2, type Luks1, type Luks2, type Stored } from './store.ts'

/**
 * Adds and removes keyslots. At every moment in between one of the keys that were there opens the
 * device: what is written first is what nothing refers to yet, or no more.
 */

/** How a new keyslot derives its key; the salt is made for it. */
export type NewKdf =
  | { readonly kind: 'pbkdf2'; readonly iterations: number }
  | { readonly kind: 'argon2id'; readonly passes: number; readonly memory: number }

/** Second or two of a processor, and memory that small machines have, too. */
export const defaultArgon2: NewKdf = { kind: 'argon2id', passes: 4, memory: 256 * MiB }
/** A second of a processor: enough for a long random key, little for a word that people type. */
export const defaultPbkdf2: NewKdf = { kind: 'pbkdf2', iterations: 2_000_000 }

/** Lanes of Argon2: other programs give each a thread, we one after the other. */
const lanes = 4
const saltBytes = 32
/** Bytes at which stripes begin: what disks of today write as one. */
const alignment = 4096
const hash = 'sha256'

/** What keyslots are made with. */
export interface Maker {
  readonly medium: Medium
  readonly deriver: Deriver
  readonly random: Random
}

/** Bytes that the stripes of a key take. */
export function areaBytes(keyBytes: number): number {
  return roundUp(keyBytes * stripes, alignment)
}

/** Describes a keyslot that is to be made. Throws INVALID if its derivation asks for too much. */
export function newKeyslot(
  { id, offset, keyBytes }: Pick<Keyslot, 'id' | 'offset' | 'keyBytes'>,
  how: NewKdf,
  random: Random,
): Keyslot {
  const salt = random.bytes(saltBytes)
  const kdf: Kdf = how.kind === 'pbkdf2' ? { ...how, hash, salt } : { ...how, lanes, salt }
  const fault = parsed(() => {
    checkKdf(kdf)
    return kdf
  })
  if (isFault(fault)) throw new StorageError('INVALID', fault.reason)
  const reserved = areaBytes(keyBytes)
  return { id, kdf, hash, keyBytes, offset, reserved, areaKeyBytes: keyBytes, priority: 1 }
}

/** Seals the volume key for a passphrase. Resolves to the stripes. */
export async function sealed(
  { deriver, random }: Maker,
  slot: Keyslot,
  { passphrase, key }: { readonly passphrase: Buffer; readonly key: Buffer },
): Promise<Buffer> {
  const noise = random.bytes(slot.keyBytes * stripes)
  const area = await deriver.seal(passphrase, slot, key, noise)
  noise.fill(0)
  return area
}

/** Makes the stripes of a keyslot durable; nothing refers to it yet. */
export async function writeArea(medium: Medium, { offset }: Keyslot, area: Buffer): Promise<void> {
  await medium.write(offset, area)
  await medium.flush()
}

/** Adds a passphrase. Resolves to the number of its keyslot. */
export async function addKeyslot(
  maker: Maker,
  stored: Stored,
  how: NewKdf,
  secrets: { readonly passphrase: Buffer; readonly key: Buffer },
): Promise<number> {
  const keyBytes = secrets.key.length
  const place = stored.format === 'luks1' ? freeLuks1(stored) : freeLuks2(stored, keyBytes)
  if (place === null) throw new StorageError('NO_SPACE', 'there is no keyslot free')
  const slot = newKeyslot({ ...place, keyBytes }, how, maker.random)
  if (stored.format === 'luks1') {
    if (slot.kdf.kind !== 'pbkdf2')
      throw new StorageError('UNSUPPORTED', 'luks1 derives keys by pbkdf2 alone')
    const named = { ...slot, kdf: { ...slot.kdf, hash: stored.header.digest.hash } }
    const first = { ...named, hash: stored.header.digest.hash }
    await addArea(maker, stored, first, secrets)
    await saveLuks1(maker.medium, withSlot(stored.bytes, slot.id, first))
  } else {
    const json = withKeyslot(stored, slot)
    const { fields } = stored
    // Known before anything is derived or written.
    if (encodeCopy(fields, json, 0) === null)
      throw new StorageError('NO_SPACE', 'the header has no room for another keyslot')
    await addArea(maker, stored, slot, secrets)
    await saveLuks2(maker.medium, stored, json)
  }
  return slot.id
}

async function addArea(
  maker: Maker,
  stored: Stored,
  slot: Keyslot,
  secrets: { readonly passphrase: Buffer; readonly key: Buffer },
): Promise<void> {
  const area = await sealed(maker, slot, secrets)
  // That took seconds, in which somebody else may have used the place.
  await mustBeUnchanged(maker.medium, stored)
  await writeArea(maker.medium, slot, area)
}

/**
 * Removes a keyslot: first its stripes, so that the key in it is gone whatever happens next, then
 * what refers to them. The caller has made sure that another keyslot opens.
 */
export async function removeKeyslot(
  { medium, random }: Pick<Maker, 'medium' | 'random'>,
  stored: Stored,
  id: number,
): Promise<void> {
  const area = stored.format === 'luks1' ? usedLuks1(stored, id) : areasIn(stored).get(id)
  if (area === undefined) throw new StorageError('INVALID', `there is no keyslot ${id}`)
  await mustBeUnchanged(medium, stored)
  await medium.write(area.from, random.bytes(area.to - area.from))
  await medium.flush()
  if (stored.format === 'luks1') await saveLuks1(medium, withSlot(stored.bytes, id, null))
  else await saveLuks2(medium, stored, withoutKeyslot(stored.json, id))
}

/** The numbers of all keyslots, also of those that we cannot use. */
export function slotNumbers(stored: Stored): readonly number[] {
  if (stored.format === 'luks1') return stored.header.keyslots.map(({ id }) => id)
  return [...areasIn(stored).keys()].sort((one, other) => one - other)
}

/** Writes the header of version 1: what differs lies within one keyslot. */
async function saveLuks1(medium: Medium, bytes: Buffer): Promise<void> {
  await medium.write(0, bytes)
  await medium.flush()
}

type Place = Pick<Keyslot, 'id' | 'offset'>

/** The first keyslot that is free and whose place is its own. */
function freeLuks1({ bytes, header }: Luks1): Place | null {
  const { keyBytes, payload } = header
  const slots = luks1SlotsIn(bytes, keyBytes)
  const used = slots.filter(({ state }) => state === 'in use')
  for (const [id, { state, from }] of slots.entries()) {
    const to = from + areaBytes(keyBytes)
    if (state !== 'free' || from < roundUp(luks1Bytes, 512) || to > payload) continue
    if (!used.some((each) => overlaps(each, { from, to }))) return { id, offset: from }
  }
  return null
}

/** The place of a keyslot. Throws UNSUPPORTED where another one lies there, too. */
function usedLuks1({ bytes, header }: Luks1, id: number): Range | undefined {
  const slot = header.keyslots.find((each) => each.id === id)
  if (slot === undefined) return undefined
  const area = { from: slot.offset, to: slot.offset + slot.reserved }
  for (const [other, each] of luks1SlotsIn(bytes, header.keyBytes).entries())
    if (other !== id && each.state === 'in use' && overlaps(each, area))
      throw new StorageError('UNSUPPORTED', `the keyslots ${id} and ${other} overlap`)
  return area
}

function overlaps(one: Range, other: Range): boolean {
  return one.from < other.to && other.from < one.to
}

function rangeOfAreas({ fields, json }: Luks2): Range {
  const from = 2 * fields.copyBytes
  const config = json['config'] as Json
  return { from, to: from + Number(config['keyslots_size']) }
}

function areasIn(stored: Luks2): ReadonlyMap<number, Range> {
  return areasOf(stored.json, rangeOfAreas(stored))
}

/** The first number that is free, and the first gap that is large enough. */
function freeLuks2(stored: Luks2, keyBytes: number): Place | null {
  const areas = areasIn(stored)
  const bytes = areaBytes(keyBytes)
  const { from, to } = rangeOfAreas(stored)
  let offset = roundUp(from, alignment)
  for (const area of [...areas.values()].sort((one, other) => one.from - other.from)) {
    if (offset + bytes <= area.from) break
    offset = Math.max(offset, roundUp(area.to, alignment))
  }
  if (offset + bytes > to) return null
  for (let id = 0; id < keyslotsMax; id++) if (!areas.has(id)) return { id, offset }
  return null
}

/** The JSON of a keyslot. */
export function keyslotJson({ kdf, ...slot }: Keyslot): Json {
  const salt = kdf.salt.toString('base64')
  return {
    type: 'luks2',
    key_size: slot.keyBytes,
    af: { type: 'luks1', stripes, hash: slot.hash },
    area: {
      type: 'raw',
      offset: String(slot.offset),
      size: String(slot.reserved),
      encryption: cipher,
      key_size: slot.areaKeyBytes,
    },
    kdf:
      kdf.kind === 'pbkdf2'
        ? { type: kdf.kind, hash: kdf.hash, iterations: kdf.iterations, salt }
        : { type: kdf.kind, time: kdf.passes, memory: kdf.memory / 1024, cpus: kdf.lanes, salt },
  }
}

function withKeyslot({ json, header }: Luks2, slot: Keyslot): Json {
  const other = String(header.keyslots[0]?.id)
  const copy = structuredClone(json) as Record<string, Record<string, unknown>>
  copy['keyslots']![String(slot.id)] = keyslotJson(slot)
  for (const digest of Object.values(copy['digests']!)) {
    const slots = (digest as Record<string, string[]>)['keyslots']!
    if (slots.includes(other)) slots.push(String(slot.id))
  }
  return copy
}

/** The JSON without a keyslot; what refers to it does so no more. */
function withoutKeyslot(json: Json, id: number): Json {
  const copy = structuredClone(json) as Record<string, Record<string, unknown>>
  const slots = Object.entries(copy['keyslots']!).filter(([slot]) => slot !== String(id))
  copy['keyslots'] = Object.fromEntries(slots)
  for (const kind of ['digests', 'tokens'])
    for (const entry of Object.values(copy[kind] ?? {})) {
      if (!isObject(entry) || !Array.isArray(entry['keyslots'])) continue
      const left = entry['keyslots'].filter((slot: unknown) => slot !== String(id))
      Object.assign(entry, { keyslots: left })
    }
  return copy
}
