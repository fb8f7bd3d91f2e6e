import { statSync, type Stats } from 'node:fs'
import { parseSecretSource } from '../base/secret.ts'
import { step, type Problem } from './source.ts'
import type { Node } from './tree.ts'

/** Checks, without reading them, that files of keys are there, and are for their owner alone. */
export function checkKeys(nodes: readonly Node[]): readonly Problem[] {
  const problems: Problem[] = []
  for (const { device, pointer } of nodes) {
    const { type, key } = device
    if (type !== 'crypt' || typeof key !== 'string') continue
    const source = parseSecretSource(key)
    if (typeof source === 'string' || source.kind !== 'file') continue
    const what = problemOf(source.path)
    if (what !== null) problems.push({ what, pointer: step(pointer, 'key') })
  }
  return problems
}

function problemOf(path: string): string | null {
  let stats: Stats | undefined
  try {
    stats = statSync(path, { throwIfNoEntry: false })
  } catch (error) {
    return `the key cannot be examined: ${(error as Error).message}`
  }
  if (stats === undefined) return `the key ${path} is not there`
  if (!stats.isFile()) return `the key ${path} is no regular file`
  return (stats.mode & 0o077) === 0 ? null : `others may use the key ${path}: chmod 600`
}
