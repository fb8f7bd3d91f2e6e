import type { MirrorSettings } from '../mirror/settings.ts'
import type * as config from '../config/config.types.ts'
import { bytes, milliseconds } from '../config/quantities.ts'

/**
 * A mirror's settings in plain numbers, from its configuration with defaults filled in.
 * `legTimeoutMs` is the one in force, see `legTimeoutOf`.
 */
export function mirrorSettings(
  mirror: config.Mirror,
  legTimeoutMs = milliseconds(mirror.legTimeout),
): MirrorSettings {
  const { suspend, resync, verify } = mirror
  return {
    extentSize: bytes(mirror.extentSize),
    size: mirror.size === undefined ? null : bytes(mirror.size),
    source: mirror.source ?? null,
    minInSync: mirror.minInSync,
    intentLog: mirror.intentLog,
    hotExtentsMax: mirror.hotExtents,
    intentIdleMs: milliseconds(mirror.intentIdle),
    legTimeoutMs,
    legRetryMs: milliseconds(mirror.legRetry),
    legRetryMsMax: milliseconds(mirror.legRetryMax),
    suspendMs: milliseconds(suspend.time),
    suspendRequestsMax: suspend.requests,
    suspendBytesMax: bytes(suspend.bytes),
    resyncWindow: resync.window,
    resyncChunkBytes: bytes(resync.chunk),
    resyncLatencyMs: milliseconds(resync.latency),
    resyncBytesPerSecond: resync.speed === undefined ? null : bytes(resync.speed),
    resyncCheckpointBytes: bytes(resync.checkpoint),
    resyncCheckpointMs: milliseconds(resync.checkpointTime),
    missedBytesMax: bytes(resync.memory),
    verifyEveryMs: verify === undefined ? null : milliseconds(verify.every),
    verifyBytesPerSecond: verify?.speed === undefined ? null : bytes(verify.speed),
    historyMax: mirror.historySize,
  }
}
