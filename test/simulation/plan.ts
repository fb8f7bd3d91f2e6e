import { KiB } from '../../src/base/size.ts'
import { metadataBytes, slotsFor } from '../../src/mirror/layout.ts'
import type { MirrorSettings } from '../../src/mirror/settings.ts'
import type { RemoteOptions } from '../../src/wire/remote-options.ts'
import type { Workload } from './client.ts'
import type { Dice } from './dice.ts'
import type { Eye } from './eyes.ts'

export interface LegPlan {
  readonly name: string
  /** Which part of the volume it holds, counted from 0. */
  readonly span: number
  /** A disk of the head's own machine, or one that a target exports. */
  readonly kind: 'local' | 'remote'
  readonly readLast: boolean
  /** Whether its disk has forced writes of its own, which leave the rest of its cache alone. */
  readonly forces: boolean
}

/** Everything that can go wrong, each with a switch per seed. */
export const faultKinds = [
  'killHead',
  'crashHead',
  'stopHead',
  'killTarget',
  'crashTarget',
  'partition',
  'oneWay',
  'reset',
  'halfOpen',
  'slowLink',
  'stall',
  'freezeHead',
  'freezeTarget',
  'readErrors',
  'writeErrors',
  'slowDisk',
  'stragglers',
  'hangDisk',
  'fullDisk',
  'flushFails',
  'stateFails',
  'blackout',
  'ambush',
  'detach',
  'invalidate',
  'verify',
  'replace',
  'grow',
  'takeover',
] as const

/** What an operator does in some seeds only: the others stay the worlds that they were. */
const operatorKinds = ['remove', 'restore', 'trust'] as const
/** What happens in some seeds only, for the same reason. */
export const laterKinds = ['saveHangs', 'rollBack', 'olderHead', 'twoBlows'] as const
export type FaultKind =
  (typeof faultKinds)[number] | (typeof operatorKinds)[number] | (typeof laterKinds)[number]
/** Of so many seeds one has such an operator. */
const operatorsEvery = 4

/** What one seed is about: everything that is decided before the world begins. */
export interface Plan {
  /** A tree is mirrors side by side, of two legs each. */
  readonly shape: 'mirror' | 'remote' | 'tree'
  readonly legs: readonly LegPlan[]
  /** Of each part. */
  readonly dataBytes: number
  readonly legBytes: number
  readonly settings: Partial<MirrorSettings>
  /** Of every remote leg. */
  readonly remote: Partial<RemoteOptions>
  readonly workload: Workload
  readonly clients: number
  readonly faults: readonly FaultKind[]
  /** Milliseconds between faults, on average. */
  readonly faultPause: number
  /** Milliseconds with faults. */
  readonly trouble: number
  /** How many deliveries of the network hand over only a few bytes. */
  readonly crumbs: number
  readonly latency: number
  readonly bytesPerMs: number
  readonly eyes: ReadonlySet<Eye>
  /** Ends with a power loss of everything: what was flushed must be there. */
  readonly finalCrash: boolean
}

export function legName(at: number): string {
  return ['left', 'right', 'third', 'fourth'][at] ?? `leg${at}`
}

export function spanOf(shape: Plan['shape'], at: number): number {
  if (shape === 'mirror') return 0
  return shape === 'remote' ? at : Math.floor(at / 2)
}

function countOf(dice: Dice, shape: Plan['shape']): number {
  if (shape === 'remote') return dice.integer(1, 2)
  return shape === 'tree' ? 4 : dice.pick([1, 2, 2, 2, 2, 3, 3, 4])
}

/** The plan with an operator who does more, in every fourth seed: 3, 7, 11 and so on. */
export function withOperator(plan: Plan, seed: number, dice: Dice): Plan {
  const { shape, faults } = plan
  if (seed % operatorsEvery !== operatorsEvery - 1 || shape === 'remote') return plan
  // A head that was replaced and goes on could still carry out what it was told to.
  const alone = !faults.includes('takeover')
  const kinds = operatorKinds.filter((kind) => dice.chance(0.7) && (alone || kind === 'remove'))
  // Often enough beside all the others.
  const some = kinds.flatMap((kind) => [kind, kind, kind])
  return { ...plan, faults: [...faults, ...some] }
}

/** A plan by chance. Whole kinds of faults are left out, so that the rest is seen undisturbed. */
export function planOf(dice: Dice): Plan {
  const shape = dice.chance(0.15) ? 'remote' : dice.chance(0.1) ? 'tree' : 'mirror'
  const count = countOf(dice, shape)
  const local = dice.pick([0, 0.3, 0.7, 1])
  const legs: LegPlan[] = []
  for (let at = 0; at < count; at++) {
    const kind = shape !== 'remote' && dice.chance(local) ? 'local' : 'remote'
    const name = legName(at)
    const span = spanOf(shape, at)
    legs.push({ name, span, kind, readLast: dice.chance(0.1), forces: dice.chance(0.5) })
  }
  const extentSize = 64 * KiB
  const dataBytes = extentSize * dice.pick([1, 2, 4, 8, 16])
  const keep = dice.pick([0.1, 0.2, 0.4, 0.7])
  const trouble = dice.pick([500, 2000, 8000])
  const clients = dice.integer(1, 3)
  const faults = faultsOf(
    dice,
    keep,
    shape === 'mirror' && legs.every((leg) => leg.kind === 'remote'),
  )
  // A volume grows to what its legs have room for, unless it was given a size.
  const size = shape === 'mirror' && faults.includes('grow') ? null : dataBytes
  const metadata = metadataBytes({ dataSize: dataBytes, extentSize, slots: slotsFor(count) })
  return {
    shape,
    legs,
    dataBytes,
    legBytes: dataBytes + (size === null ? metadata : 2048 * KiB),
    settings: settingsOf(dice, size, extentSize, count),
    remote: remoteOf(dice),
    workload: workloadOf(dice, (trouble * clients) / dice.pick([50, 200, 600])),
    clients,
    faults,
    faultPause: trouble / dice.pick([3, 8, 20, 40]),
    trouble,
    crumbs: dice.pick([0, 0.1, 0.5]),
    latency: dice.pick([0.02, 0.2, 2]),
    bytesPerMs: dice.pick([10_000, 100_000, 1_000_000]),
    eyes: new Set(),
    finalCrash: dice.chance(0.7),
  }
}

/**
 * A second head needs legs that both can reach, and a checker that knows who is in sync; and it
 * finds no leg that grew while no head was there.
 */
function faultsOf(dice: Dice, keep: number, reachable: boolean): FaultKind[] {
  const faults: FaultKind[] = faultKinds.filter(() => dice.chance(keep))
  if (!faults.includes('takeover')) return faults
  const apart = new Set<FaultKind>(['crashHead', 'crashTarget', 'blackout', 'ambush', 'grow'])
  if (reachable && dice.chance(0.5)) return faults.filter((kind) => !apart.has(kind))
  return faults.filter((kind) => kind !== 'takeover')
}

function settingsOf(
  dice: Dice,
  size: number | null,
  extentSize: number,
  legs: number,
): Partial<MirrorSettings> {
  return {
    size,
    extentSize,
    minInSync: legs > 1 && dice.chance(0.2) ? 2 : 1,
    hotExtentsMax: dice.pick([1, 2, 8, 4096]),
    intentIdleMs: dice.pick([5, 100, 10_000]),
    legTimeoutMs: dice.pick([200, 2000, 30_000]),
    legRetryMs: dice.pick([10, 100, 1000]),
    legRetryMsMax: dice.pick([100, 1000, 5000]),
    suspendMs: dice.pick([100, 5000, 60_000]),
    resyncWindow: dice.pick([1, 2, 8]),
    resyncChunkBytes: dice.pick([4 * KiB, 16 * KiB, 64 * KiB]),
    resyncCheckpointBytes: dice.pick([64 * KiB, 256 * KiB]),
    resyncBytesPerSecond: dice.pick([null, null, 100_000, 1_000_000]),
  }
}

function remoteOf(dice: Dice): Partial<RemoteOptions> {
  const pingInterval = dice.pick([50, 200, 1000])
  return {
    connections: dice.pick([1, 2, 3]),
    hold: dice.pick([50, 500, 5000]),
    connectTimeout: dice.pick([50, 500, 2000]),
    pingInterval,
    pingTimeout: pingInterval * 3,
    requestTimeout: dice.pick([0, 0, 300, 3000]),
    checksums: dice.chance(0.5),
  }
}

function workloadOf(dice: Dice, pause: number): Workload {
  const some = (): number => dice.pick([0, 1, 1, 5])
  return {
    read: dice.pick([1, 5, 10]),
    write: dice.pick([5, 10, 20]),
    fua: some() / 2,
    flush: some(),
    zero: some() / 3,
    trim: some() / 3,
    depth: dice.pick([1, 2, 4, 8]),
    pause,
    sectorsMax: dice.pick([8, 16, 64, 200]),
    hot: dice.pick([0, 0, 4, 64]),
  }
}
