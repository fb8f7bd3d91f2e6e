import { describeSize, formatSize, roundDown, roundUp } from '../base/size.ts'
import { dataSizeFor, extentsMax, metadataBytes, pageBytes, type Geometry } from './layout.ts'
import type { Leg } from './leg.ts'
import type { Volume } from './volume.ts'

/** Bytes that a leg needs for the volume to grow to `dataSize` bytes. */
export function legBytesFor({ geometry }: Volume, leg: Leg, dataSize: number): number {
  const wanted = { ...geometry, dataSize }
  let bytes = dataSize
  // The metadata for the last bytes take a few more themselves.
  while (dataSizeFor(bytes, wanted.extentSize, wanted.slots) < dataSize)
    bytes = Math.max(bytes + pageBytes, dataSize + metadataBytes({ ...wanted, dataSize: bytes }))
  const moved = leg.endNow >= bytes ? 0 : leg.end + metadataBytes(wanted)
  return roundUp(Math.max(bytes, moved), pageBytes)
}

/** Bytes of the largest volume that the leg has room for now. */
export function roomOf(leg: Leg, { extentSize, slots }: Geometry): number {
  return dataSizeFor(leg.endNow, extentSize, slots)
}

/**
 * Bytes of the largest volume with such extents: the record of a larger one could not be read
 * again.
 */
export function dataSizeMax({ extentSize }: Geometry): number {
  return extentsMax * extentSize
}

/** Bytes that the volume may have at most, however large its legs are. */
export function sizeLimit({ geometry, sizeMax }: Volume): number {
  return roundDown(Math.min(sizeMax, dataSizeMax(geometry)), pageBytes)
}

/** Why no volume can have so many bytes, '' if one can. */
export function whyNoSize({ geometry }: Volume, dataSize: number): string {
  const most = dataSizeMax(geometry)
  if (dataSize > most) return `a volume with its extents has ${describeSize(most)} at most`
  return dataSize % pageBytes === 0 ? '' : `its size is a multiple of ${pageBytes} bytes`
}

/** What keeps a volume from being larger, and what to type; a sentence. */
export function whyNotLarger(volume: Volume): string {
  const { legs, readable, path } = volume
  if (!volume.running) return `the volume is ${volume.word}: ${volume.reason}`
  const away = legs.filter((leg) => !readable.includes(leg)).map(({ name }) => name)
  if (away.length > 0) return `${away.join(' and ')} must be in sync first`
  const stuck = legs.find((leg) => leg.isStuck)
  if (stuck !== undefined)
    return `${stuck.name} cannot hold what it grew by; \`dst volume history ${path}\` says why`
  const { geometry } = volume
  const { dataSize } = geometry
  if (dataSize >= dataSizeMax(geometry)) return 'it has as many extents as a volume can have'
  if (dataSize >= sizeLimit(volume))
    return `the configuration has its size; \`dst volume grow ${path} SIZE\` goes beyond`
  const least = legs.toSorted((one, other) => roomOf(one, geometry) - roomOf(other, geometry))[0]!
  if (roomOf(least, geometry) <= dataSize)
    return `${least.name} has no more room; \`dst leg grow ${path} ${least.name} SIZE\``
  const short = legs.find((leg) => leg.endNow !== leg.end && leg.endNow < movable(volume, leg))
  if (short !== undefined)
    return `${short.name} needs ${movable(volume, short)} bytes at least: its metadata move`
  return 'it is about to grow'
}

/** The least end at which new metadata do not touch those of now, bytes. */
function movable({ geometry }: Volume, leg: Leg): number {
  const { extentSize, slots } = geometry
  return leg.end + metadataBytes({ dataSize: roomOf(leg, geometry), extentSize, slots })
}

/** What legs have grown by that the volume cannot use yet, and why; '' if none has. */
export function describeRoom(volume: Volume): string {
  if (!volume.running) return ''
  const grown = volume.legs.filter((leg) => leg.endNow > leg.end)
  if (grown.length === 0) return ''
  const names = grown.map((leg) => `${leg.name} by ${describeSize(leg.endNow - leg.end)}`)
  return `grew: ${names.join(', ')}; ${whyNotLarger(volume)}`
}

/**
 * A sentence for the operator if the volume is larger than the configuration says; '' if it is not.
 */
export function sizeWarning({ record, settings, path }: Volume): string {
  const { size } = settings
  if (record === null || size === null || record.dataSize <= size) return ''
  const [old, now] = [formatSize(size), formatSize(record.dataSize)]
  return (
    `${path} was enlarged to ${now} by a command, and the configuration has its size as ${old}: ` +
    `write "size": "${now}" there`
  )
}
