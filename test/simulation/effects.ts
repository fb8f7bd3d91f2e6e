import { Operation } from '../../src/device/request.ts'
import { superblockBytes } from '../../src/mirror/layout.ts'
import { sectorBytes, type Medium } from './medium.ts'
import type { Leg } from './trees.ts'
import type { World } from './world.ts'

/** What of a world can be counted, and waited for. */
export const effectKinds = [
  /** A disk is asked to write, or to flush; what it writes, by where it lies. */
  'superblock',
  'map',
  'data',
  'flush',
  /** A disk is asked to read. */
  'look',
  'read',
  /** Any of these has taken effect, and is not answered yet. */
  'done',
  /** A leg is claimed. */
  'claim',
  /** The head saves its record; it is saved, and not answered yet. */
  'save',
  'saved',
  /** Bytes arrive at a machine. */
  'packet',
  /** The volume says something else than before. */
  'state',
] as const
export type EffectKind = (typeof effectKinds)[number]

type Watcher = (kind: EffectKind, leg: Leg | null) => void

/** Everything that reaches a disk, a state directory or a machine, in order. */
export class Effects {
  count = 0
  private readonly world: World
  private readonly watchers = new Set<Watcher>()

  constructor(world: World) {
    this.world = world
  }

  watch(watcher: Watcher): void {
    this.watchers.add(watcher)
  }

  unwatch(watcher: Watcher): void {
    this.watchers.delete(watcher)
  }

  /** `leg`: which one it is about; null where it is about none. */
  happen(kind: EffectKind, leg: Leg | null): void {
    this.count++
    for (const watcher of this.watchers) watcher(kind, leg)
  }

  /** What an operation is that a disk is asked for. */
  kindOf(medium: Medium, operation: Operation, offset: number): EffectKind {
    if (operation === Operation.flush) return 'flush'
    const reads = operation === Operation.read || operation === Operation.status
    if (offset < this.world.sectorsPerLeg * sectorBytes) return reads ? 'read' : 'data'
    if (reads) return 'look'
    return offset >= medium.size - 2 * superblockBytes ? 'superblock' : 'map'
  }
}
