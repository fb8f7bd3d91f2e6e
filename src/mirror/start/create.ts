import { Bitmap } from '../../base/bitmap.ts'
import { StorageError } from '../../base/errors.ts'
import { KiB } from '../../base/size.ts'
import {
  dataSizeFor,
  encodePage,
  extentCount,
  extentsMax,
  mapBytes,
  mapOffset,
  pageBytes,
  slotsFor,
  type Geometry,
} from '../layout.ts'
import type { Leg } from '../leg.ts'
import { counterAfter, type Member, type VolumeRecord } from '../record.ts'
import type { Volume } from '../volume.ts'
import { findFilled, isStillSo } from './former.ts'
import type { Decision, LegView } from './decision.ts'

/**
 * Makes a new volume on blank legs and writes their superblocks. Legs that all read as zeroes are
 * in sync at once; otherwise the one that has data is the source and the others are filled. Rejects
 * with CONFIG where sizes or sources do not allow it.
 */
export async function createRecord(
  volume: Volume,
  views: readonly LegView[],
): Promise<Extract<Decision, { kind: 'start' }>> {
  const legs = views.filter(({ found }) => found !== null).map(({ leg }) => leg)
  const record = emptyRecord(volume, legs)
  const sources = await chooseSources(volume, legs, record.dataSize)
  for (const leg of volume.legs) {
    addMember(volume, record, leg)
    if (!sources.includes(leg)) continue
    leg.member!.state = 'in-sync'
    leg.member!.reason = ''
    leg.member!.size = leg.end
    leg.member!.bootId = leg.device.facts!.bootId
  }
  // The look may take hours: a device that has replaced one meanwhile may have data, and would be
  // called in sync.
  for (const leg of sources) leg.superblocks.mustBeSameDevice()
  await Promise.all(sources.map((leg) => format(leg, record)))
  const names = sources.map((leg) => leg.name).join(', ')
  return {
    kind: 'start',
    record,
    present: sources,
    byOwnRecord: false,
    forced: false,
    refusals: new Map(),
    split: [],
    reason: `as a new volume, with the content of ${names}`,
  }
}

function emptyRecord(volume: Volume, legs: readonly Leg[]): VolumeRecord {
  const { settings } = volume
  const slots = slotsFor(volume.legs.length)
  const facts = legs.map((leg) => leg.device.facts!)
  const sizes = facts.map(({ size }) => dataSizeFor(size, settings.extentSize, slots))
  const dataSize = settings.size ?? Math.min(...sizes)
  if (dataSize % pageBytes !== 0)
    throw new StorageError('CONFIG', `the size is not a multiple of ${pageBytes}`, volume.path)
  if (dataSize / settings.extentSize > extentsMax)
    throw new StorageError(
      'CONFIG',
      `more than ${extentsMax} extents: use larger ones`,
      volume.path,
    )
  for (const [at, leg] of legs.entries()) {
    const size = sizes[at]!
    if (size < dataSize || size === 0)
      throw new StorageError('CONFIG', `leg ${leg.name} has room for ${size} bytes`, volume.path)
    const { readOnly, blockSize } = facts[at]!
    if (readOnly) throw new StorageError('CONFIG', `leg ${leg.name} is read-only`, volume.path)
    if (blockSize > pageBytes)
      throw new StorageError('CONFIG', `leg ${leg.name} has blocks of ${blockSize}`, volume.path)
  }
  // No lower than the claim of the legs: 1, unless the claim had to be above what was given up.
  const generation = { counter: counterAfter(volume.head.counterFloor), id: volume.newId(16) }
  return {
    volume: volume.newId(32),
    generation,
    base: generation,
    history: [],
    forcedAt: null,
    bootId: volume.newId(32),
    extentSize: settings.extentSize,
    dataSize,
    blockSize: Math.max(...facts.map(({ blockSize }) => blockSize)),
    slots,
    members: [],
    zeroing: null,
    entries: [],
  }
}

/** Adds a leg that is new to the volume to the record. Throws CONFIG where no more fit. */
export function addMember(volume: Volume, record: VolumeRecord, leg: Leg): void {
  const used = new Set(record.members.map((member) => member.slot))
  let slot = 0
  while (used.has(slot)) slot++
  if (slot >= record.slots)
    throw new StorageError(
      'CONFIG',
      `no more than ${record.slots} legs fit this volume`,
      volume.path,
    )
  const member: Member = {
    id: volume.newId(32),
    name: leg.name,
    state: 'missing',
    reason: 'new',
    since: Math.floor(volume.clock.wall()),
    slot,
    left: null,
    size: 0,
    bootId: '',
    label: null,
    stamp: null,
  }
  record.members.push(member)
  leg.bind(member)
}

async function chooseSources(volume: Volume, legs: Leg[], dataSize: number): Promise<Leg[]> {
  const { source } = volume.settings
  if (source !== null) {
    const named = legs.find((leg) => leg.name === source)
    if (named !== undefined) return [named]
    throw new StorageError('CONFIG', `the source ${source} is not a leg that is there`, volume.path)
  }
  const filled: Leg[] = []
  for (const leg of legs) if (await hasData(volume, leg, dataSize)) filled.push(leg)
  if (filled.length === 0) return legs
  if (filled.length === 1) return filled
  const names = filled.map((leg) => leg.name).join(' and ')
  const which = `name the one that counts as source, such as "source": "${filled[0]!.name}"`
  const reason = `${names} both have data: ${which}, in the configuration of the mirror`
  throw new StorageError('CONFIG', reason, volume.path)
}

/** Looks through the leg, unless that was done before and still holds. */
async function hasData(volume: Volume, leg: Leg, size: number): Promise<boolean> {
  const { filled: found } = volume.looking
  const filled = found.get(leg) ?? null
  found.delete(leg)
  const known = filled !== null && filled.to <= size && (await isStillSo(volume, leg, filled))
  if (known) return filled.to > 0
  volume.looking.begin(size, volume.clock)
  try {
    return (await findFilled(volume, leg, size)).to > 0
  } finally {
    volume.looking.end()
  }
}

/** Bytes of empty maps that are written at once. */
const formatBytes = 256 * KiB

/** Writes empty maps and both superblocks to the leg. Rejects when a write fails. */
export async function format(leg: Leg, record: VolumeRecord): Promise<void> {
  const prepare = async (): Promise<void> => {
    await formatMaps(leg, record)
    leg.superblocks.forget()
  }
  await leg.superblocks.writeBoth(prepare, () => record)
}

/**
 * Writes empty maps, which lie one after the other, for the leg's present end. Rejects when a write
 * fails.
 */
export async function formatMaps(leg: Leg, geometry: Geometry): Promise<void> {
  const empty = new Bitmap(extentCount(geometry))
  const pagesPerMap = mapBytes(geometry) / pageBytes
  const pages = (1 + geometry.slots) * pagesPerMap
  const start = mapOffset(geometry, leg.end, 0)
  for (let first = 0; first < pages; first += formatBytes / pageBytes) {
    const count = Math.min(formatBytes / pageBytes, pages - first)
    const bytes = Buffer.allocUnsafe(count * pageBytes)
    for (let at = 0; at < count; at++) {
      const page = bytes.subarray(at * pageBytes, (at + 1) * pageBytes)
      encodePage(empty, Math.floor((first + at) / pagesPerMap), (first + at) % pagesPerMap, page)
    }
    await leg.write(start + first * pageBytes, bytes)
  }
}
