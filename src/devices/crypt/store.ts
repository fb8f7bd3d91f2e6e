import { isDeepStrictEqual } from 'node:util'
import { StorageError, type Code } from '../../base/errors.ts'
import { isFault, type Fault, type Header } from './header.ts'
import { luks1Bytes, luks1Problems, parseLuks1 } from './luks1.ts'
import {
  copyBytesMax,
  copyBytesMin,
  encodeCopy,
  fieldsBytes,
  parseCopy,
  parseSize,
  type Copy,
  type Fields,
  type Place,
} from './luks2.ts'
import { parseMetadata, type Json } from './luks2-json.ts'
import type { Medium } from './medium.ts'

/** A header of version 1, as it is on the device. */
export interface Luks1 {
  readonly format: 'luks1'
  readonly header: Header
  readonly bytes: Buffer
  readonly problems: readonly string[]
}

/** A header of version 2: its newest copy that is whole. */
export interface Luks2 {
  readonly format: 'luks2'
  readonly header: Header
  readonly fields: Fields
  readonly json: Json
  /** The copy that counts; the other is written first. */
  readonly place: Place
  /** What is wrong with the other copy; empty when both are equal. */
  readonly problems: readonly string[]
}

export type Stored = Luks1 | Luks2

/** Bytes that are read to tell the version and the sizes. */
const firstBytes = Math.max(fieldsBytes, luks1Bytes)

/**
 * Reads the header of a device. Resolves to why there is none that can be used. Rejects when the
 * device cannot be read.
 */
export async function loadHeader(medium: Medium): Promise<Stored | Fault> {
  if (medium.size < copyBytesMin) return { kind: 'absent', reason: 'there is no room for a header' }
  const first = await medium.read(0, firstBytes)
  const older = parseLuks1(first.subarray(0, luks1Bytes))
  if (!isFault(older)) {
    const bytes = Buffer.from(first.subarray(0, luks1Bytes))
    return { format: 'luks1', header: older, bytes, problems: luks1Problems(bytes, older) }
  }
  const copies = await Promise.all([firstCopy(medium, first), secondCopy(medium, first)])
  // What is no second version may be a first one that is not right.
  if (copies.every((copy) => isFault(copy) && copy.kind === 'absent')) return older
  const isFirst = first.readUInt16BE(6) === 1 && older.kind !== 'absent'
  return isFirst ? older : choose(...copies)
}

async function firstCopy(medium: Medium, fields: Buffer): Promise<Copy | Fault> {
  const size = parseSize(fields, 0)
  if (typeof size !== 'number') return size
  if (size > medium.size) return { kind: 'damaged', reason: 'it is longer than the device' }
  return parseCopy(await medium.read(0, size), 0)
}

/** Reads the second copy where the first says, or else at every place where it may be. */
async function secondCopy(medium: Medium, fields: Buffer): Promise<Copy | Fault> {
  const told = parseSize(fields, 0)
  let fault: Fault = { kind: 'absent', reason: 'there is none' }
  for (let size = copyBytesMin; size <= copyBytesMax && 2 * size <= medium.size; size *= 2) {
    if (typeof told === 'number' && size !== told) continue
    const found = parseSize(await medium.read(size, fieldsBytes), 1)
    if (typeof found !== 'number' || found !== size) continue
    const copy = parseCopy(await medium.read(size, size), 1)
    if (!isFault(copy)) return copy
    fault = copy
  }
  return fault
}

/** Takes the newer of the copies that are whole. */
function choose(first: Copy | Fault, second: Copy | Fault): Luks2 | Fault {
  for (const copy of [first, second]) if (isFault(copy) && copy.kind === 'unsupported') return copy
  if (isFault(first)) return isFault(second) ? first : taken(second, 1, [tell(0, first)])
  if (isFault(second)) return taken(first, 0, [tell(1, second)])
  const { serial } = first.fields
  if (
    first.fields.copyBytes !== second.fields.copyBytes ||
    first.fields.uuid !== second.fields.uuid
  )
    return taken(first, 0, ['the second copy is of another header'])
  if (second.fields.serial > serial) return taken(second, 1, ['the first copy is older'])
  return taken(first, 0, second.fields.serial < serial ? ['the second copy is older'] : [])
}

function tell(place: Place, { reason }: Fault): string {
  return `the ${place === 0 ? 'first' : 'second'} copy is of no use: ${reason}`
}

function taken(copy: Copy, place: Place, problems: readonly string[]): Luks2 {
  return { format: 'luks2', ...copy, place, problems }
}

/**
 * Saves other JSON in both copies, each durable before the next is touched: whenever that ends, one
 * of them is whole. The copy that counts is written last, because the other may not be whole.
 */
export async function saveLuks2(medium: Medium, stored: Luks2, json: Json): Promise<Luks2> {
  const fields = { ...stored.fields, serial: stored.fields.serial + 1 }
  // With both whole and equal, the first goes first, as everywhere.
  const first: Place = stored.problems.length === 0 || stored.place === 1 ? 0 : 1
  const second: Place = first === 0 ? 1 : 0
  const header = parseMetadata(json, fields)
  for (const place of [first, second]) {
    const bytes = encodeCopy(fields, json, place)
    if (bytes === null) throw new StorageError('NO_SPACE', 'the header has no room for more')
    await medium.write(place === 0 ? 0 : fields.copyBytes, bytes)
    await medium.flush()
  }
  return { ...stored, header, fields, json, place: 0, problems: [] }
}

/**
 * Rejects with BUSY if the header is not the one that was read before: somebody else has changed it
 * meanwhile, and a change of what it was would take a key of his away.
 */
export async function mustBeUnchanged(medium: Medium, stored: Stored): Promise<void> {
  const now = await loadHeader(medium)
  if (!isFault(now) && isEqual(now, stored)) return
  throw new StorageError('BUSY', 'somebody else has changed the header meanwhile: try again')
}

function isEqual(one: Stored, other: Stored): boolean {
  if (one.format === 'luks1') return other.format === 'luks1' && one.bytes.equals(other.bytes)
  if (other.format === 'luks1') return false
  return isDeepStrictEqual([one.fields, one.json], [other.fields, other.json])
}

const codes: Readonly<Record<Fault['kind'], Code>> = {
  absent: 'CONFIG',
  damaged: 'IO',
  unsupported: 'UNSUPPORTED',
}

/** The error of a header that is of no use. */
export function headerError({ kind, reason }: Fault, device: string): StorageError {
  const hint = kind === 'absent' ? ': `dst crypt format` makes one' : ''
  return new StorageError(codes[kind], `the LUKS header: ${reason}${hint}`, device)
}
