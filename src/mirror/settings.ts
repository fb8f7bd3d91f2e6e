import type { Clock } from '../base/clock.ts'
import { KiB, MiB } from '../base/size.ts'
import type { Log } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import type { Device } from '../device/device.ts'
import type { StateStore } from '../base/store.ts'
import type { Leg } from './leg.ts'

/** A child of a mirror, as configured. Its name never changes. */
export interface LegOptions {
  readonly name: string
  readonly device: Device
  /** Read from it only when no other leg can answer. */
  readonly readLast?: boolean
}

/** The operator's word on what is on a leg that is attached. */
export interface AttachOptions {
  /** Whatever is on the leg, and was changed on it alone, may be lost. */
  readonly discard?: boolean
  /** The leg is blank because it is a new disk in the place of the old one. */
  readonly replace?: boolean
}

/** What a mirror is made from. */
export interface MirrorOptions {
  readonly legs: readonly LegOptions[]
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Where the head keeps its own record; null where it cannot, and starts are more careful. */
  readonly store: StateStore | null
  /** The record's name in the store: letters, digits, '-' and '_'. */
  readonly key: string
  readonly settings?: Partial<MirrorSettings>
}

/** What an operator may set. The defaults are below. */
export interface MirrorSettings {
  /** The unit of the intent log and dirty maps in bytes: a power of two from 64 KiB to 64 MiB. */
  readonly extentSize: number
  /** Bytes of a new volume; null for as many as the smallest leg can hold. */
  readonly size: number | null
  /**
   * The leg whose content a new volume starts with; if null, at most one leg may have data then.
   */
  readonly source: string | null
  /** Legs that must be in sync: writes wait rather than be acknowledged by fewer. */
  readonly minInSync: number
  /** Whether crashes are recovered by extents written recently, instead of whole legs. */
  readonly intentLog: boolean
  /**
   * Extents that stay in the intent log: a higher number saves metadata writes and makes a resync
   * longer.
   */
  readonly hotExtentsMax: number
  /** Milliseconds without writes after which an extent is taken out of the intent log. */
  readonly intentIdleMs: number
  /** Milliseconds that a leg may answer nothing before it leaves; see `Watchdog`. */
  readonly legTimeoutMs: number
  /** Milliseconds before a leg that failed is tried again; doubled up to `legRetryMsMax`. */
  readonly legRetryMs: number
  readonly legRetryMsMax: number
  /** Milliseconds that requests wait when no leg, or fewer than `minInSync`, can take them. */
  readonly suspendMs: number
  /** Requests that may wait like that, and their bytes. */
  readonly suspendRequestsMax: number
  readonly suspendBytesMax: number
  /** Pieces of a resync or verify under way at once, of `resyncChunkBytes` each. */
  readonly resyncWindow: number
  readonly resyncChunkBytes: number
  /** Resync and verify slow down when clients' writes take longer than this many milliseconds. */
  readonly resyncLatencyMs: number
  /** Bytes per second of a resync at most; null for no limit. */
  readonly resyncBytesPerSecond: number | null
  /** Bytes that a resync copies before it makes them durable. */
  readonly resyncCheckpointBytes: number
  /** Milliseconds after which it does so, even if it copied less. */
  readonly resyncCheckpointMs: number
  /**
   * Bytes of memory in which the missed blocks of each leg that is not in sync are kept. When they
   * are used up, whole extents are copied.
   */
  readonly missedBytesMax: number
  /** Milliseconds from the end of one verify to the next scheduled one; null to schedule none. */
  readonly verifyEveryMs: number | null
  /** Bytes per second of scheduled verifies at most; null for the limit of a resync. */
  readonly verifyBytesPerSecond: number | null
  /** Entries that the history keeps. */
  readonly historyMax: number
}

/**
 * How many times `legTimeoutMs` a leg may take that is slow rather than silent: for one request
 * while it answers others, for a flush or zeroes, which may mean writing a whole cache to a disk,
 * and where no other leg could go on without it. A disk that finds a bad sector takes up to 30 s.
 */
export const legPatience = 4

export const mirrorDefaults: MirrorSettings = {
  extentSize: MiB,
  size: null,
  source: null,
  minInSync: 1,
  intentLog: true,
  hotExtentsMax: 4096,
  intentIdleMs: 10_000,
  // Together with a tick of the watchdog well below the 10 s after which people look for a fault.
  legTimeoutMs: 7000,
  legRetryMs: 1000,
  legRetryMsMax: 60_000,
  suspendMs: 60_000,
  suspendRequestsMax: 1024,
  suspendBytesMax: 64 * MiB,
  resyncWindow: 8,
  resyncChunkBytes: 512 * KiB,
  resyncLatencyMs: 50,
  resyncBytesPerSecond: null,
  resyncCheckpointBytes: 256 * MiB,
  resyncCheckpointMs: 5000,
  missedBytesMax: 16 * MiB,
  verifyEveryMs: null,
  verifyBytesPerSecond: null,
  historyMax: 256,
}

/** What a volume tells the mirror, which then does what takes long. */
export interface VolumeHooks {
  /** The volume may be able to start. */
  onWaiting(): void
  /** A leg may be given up now that was not before. */
  onLeaving(leg: Leg): void
  /** The leg may be able to come back. */
  onReturn(leg: Leg): void
  /** The volume may be able to grow. */
  onGrown(): void
}
