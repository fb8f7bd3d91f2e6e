import { isObject, isPowerOfTwo } from '../base/guards.ts'
import { parseSecretSource } from '../base/secret.ts'
import { formatSize, KiB, MiB, TiB } from '../base/size.ts'
import { legTimeoutOf } from './patience.ts'
import { durationOf, sizeOf } from './quantities.ts'
import { step, type Problem } from './source.ts'
import { suggestion } from './suggest.ts'
import type { Node } from './tree.ts'

/** Bytes of the largest memory: its table of pages has to fit into one array. */
const memoryBytesMax = 64 * TiB

/** Checks that the options of each device fit one another. */
export function checkDevices(nodes: readonly Node[], problems: Problem[]): void {
  for (const node of nodes) {
    const { type } = node.device
    if (type === 'mirror') checkMirror(node, problems)
    else if (type === 'delay') checkDelay(node, problems)
    else if (type === 'memory') checkMemory(node, problems)
    else if (type === 'crypt') checkCrypt(node, problems)
    else if (type === 'remote') checkRemote(node, problems)
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

function checkCrypt({ device, pointer }: Node, problems: Problem[]): void {
  const { key } = device
  const source = typeof key === 'string' ? parseSecretSource(key) : null
  if (typeof source === 'string')
    problems.push({ what: `found "${String(key)}": ${source}`, pointer: step(pointer, 'key') })
}

function checkRemote({ device, pointer }: Node, problems: Problem[]): void {
  const [ping, silence] = [durationOf(device['pingInterval']), durationOf(device['pingTimeout'])]
  if (ping !== null && silence !== null && 0 < silence && silence <= ping)
    problems.push({
      what: 'not above pingInterval: a connection without requests would always be given up',
      pointer: step(pointer, 'pingTimeout'),
    })
}

function checkMirror({ device, pointer }: Node, problems: Problem[]): void {
  const { legs, minInSync, source, extentSize, resync } = device
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
  const extentRange = { least: 64 * KiB, most: 64 * MiB }
  checkUnit(extentSize, extentRange, step(pointer, 'extentSize'), problems)
  if (!isObject(resync)) return
  const place = step(pointer, 'resync')
  const chunkRange = { least: 4 * KiB, most: 32 * MiB }
  checkUnit(resync['chunk'], chunkRange, step(place, 'chunk'), problems)
  if (sizeOf(resync['speed']) === 0)
    problems.push({ what: 'found 0: nothing would ever be copied', pointer: step(place, 'speed') })
}

/** Checks that a size is a power of two from `least` to `most` bytes. */
function checkUnit(
  value: unknown,
  { least, most }: { readonly least: number; readonly most: number },
  pointer: string,
  problems: Problem[],
): void {
  const unit = sizeOf(value)
  if (unit === null || (isPowerOfTwo(unit) && unit >= least && unit <= most)) return
  const allowed = `a power of two from ${formatSize(least)} to ${formatSize(most)}`
  problems.push({ what: `found ${String(value)}; allowed: ${allowed}`, pointer })
}

function checkDelay({ device, pointer }: Node, problems: Problem[]): void {
  const [min, max] = [durationOf(device['min']), durationOf(device['max'])]
  if (min !== null && max !== null && max < min)
    problems.push({
      what: 'the longest delay is below the shortest',
      pointer: step(pointer, 'max'),
    })
}

/** Warns of settings that do not hold as they are written, though the device is served. */
export function warnOfDevices(
  nodes: readonly Node[],
  find: (name: string) => unknown,
): readonly Problem[] {
  const warnings: Problem[] = []
  for (const { device, pointer } of nodes) {
    if (device['type'] !== 'mirror') continue
    const { milliseconds, because } = legTimeoutOf(device, find)
    if (because === '') continue
    const used = `${milliseconds / 1000} s count instead of ${String(device['legTimeout'])}`
    const what = `${used}, because ${because} holds requests for longer`
    warnings.push({ what, pointer: step(pointer, 'legTimeout') })
  }
  return warnings
}
