import { parseDuration } from '../base/duration.ts'
import { formatSize, KiB, MiB, parseSize, TiB } from '../base/size.ts'
import type { Node } from './semantics.ts'
import { step, type Problem } from './source.ts'
import { suggestion } from './suggest.ts'
import { isObject } from './tree.ts'

/** Its table of pages has to fit into one array. */
const memoryBytesMax = 64 * TiB

/** What options of one device mean together. */
export function checkDevices(nodes: readonly Node[], problems: Problem[]): void {
  for (const node of nodes) {
    const { type } = node.device
    if (type === 'mirror') checkMirror(node, problems)
    else if (type === 'delay') checkDelay(node, problems)
    else if (type === 'memory') checkMemory(node, problems)
  }
}

function checkMemory({ device, pointer }: Node, problems: Problem[]): void {
  const size = sizeOf(device['size'])
  if (size !== null && size > memoryBytesMax)
    problems.push({
      what: `found ${String(device['size'])}; a memory has at most ${formatSize(memoryBytesMax)}`,
      pointer: step(pointer, 'size'),
    })
}

function checkMirror({ device, pointer }: Node, problems: Problem[]): void {
  const { legs, minInSync, source, extentSize } = device
  const names = isObject(legs) ? Object.keys(legs) : []
  if (typeof minInSync === 'number' && minInSync > names.length && names.length > 0)
    problems.push({
      what: `found ${minInSync}, but there are ${names.length} legs: nothing could be written`,
      pointer: step(pointer, 'minInSync'),
    })
  if (typeof source === 'string' && !names.includes(source))
    problems.push({
      what: `no leg is named "${source}"${suggestion(source, names)}; legs: ${names.join(', ')}`,
      pointer: step(pointer, 'source'),
    })
  const extent = sizeOf(extentSize)
  if (extent !== null && (!isPowerOfTwo(extent) || extent < 64 * KiB || extent > 64 * MiB))
    problems.push({
      what: `found ${String(extentSize)}; allowed: a power of two from 64K to 64M`,
      pointer: step(pointer, 'extentSize'),
    })
}

function checkDelay({ device, pointer }: Node, problems: Problem[]): void {
  const [min, max] = [durationOf(device['min']), durationOf(device['max'])]
  if (min !== null && max !== null && max < min)
    problems.push({
      what: 'the longest delay is below the shortest',
      pointer: step(pointer, 'max'),
    })
}

function sizeOf(value: unknown): number | null {
  return typeof value === 'string' || typeof value === 'number' ? parseSize(value) : null
}

function durationOf(value: unknown): number | null {
  return typeof value === 'string' || typeof value === 'number' ? parseDuration(value) : null
}

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(Math.log2(value))
}
