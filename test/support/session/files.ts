import { readdirSync } from 'node:fs'
import { join } from 'node:path'

/** Seconds that a file of tests takes which is not listed. */
const othersSeconds = 0.7

/**
 * Files of tests that are no part of the quick run, with the seconds each takes on two quiet cores.
 * A file that is not here is in the quick run.
 */
export const slowSeconds: Readonly<Record<string, number>> = {
  'test/bench/bench.test.ts': 12,
  'test/bench/failures.test.ts': 60,
  'test/bench/harness.test.ts': 10,
  'test/cli/background.test.ts': 4,
  'test/cli/bench.test.ts': 10,
  'test/cli/bridge.test.ts': 27,
  'test/cli/crypt.test.ts': 12,
  'test/cli/disks.test.ts': 14,
  'test/cli/install.test.ts': 25,
  'test/cli/log.test.ts': 16,
  'test/cli/modes.test.ts': 12,
  'test/cli/print.test.ts': 4,
  'test/cli/serve.test.ts': 26,
  'test/cli/state.test.ts': 15,
  'test/cli/status.test.ts': 64,
  'test/cli/stop.test.ts': 32,
  'test/cli/streams.test.ts': 3,
  'test/cli/tls.test.ts': 15,
  'test/cli/usage.test.ts': 9,
  'test/cli/verify.test.ts': 5,
  'test/cli/words.test.ts': 4,
  'test/daemon/absent.test.ts': 8,
  'test/daemon/making.test.ts': 3,
  'test/device/conformance.test.ts': 14,
  'test/devices/crypt/conformance.test.ts': 8,
  'test/devices/crypt/crashes.test.ts': 6,
  'test/devices/crypt/crypt.test.ts': 5,
  'test/devices/crypt/hostile.test.ts': 4,
  'test/devices/file/disk.test.ts': 9,
  'test/devices/file/holes.test.ts': 12,
  'test/devices/memory.test.ts': 3,
  'test/devices/zeroes.test.ts': 3,
  'test/explore/explore.test.ts': 15,
  'test/explore/reduce.test.ts': 15,
  'test/fuzz/fuzz.test.ts': 6,
  'test/interop/bridge.test.ts': 20,
  'test/interop/crypt.test.ts': 20,
  'test/interop/nbd-clients.test.ts': 20,
  'test/interop/nbd-servers.test.ts': 20,
  'test/interop/tls-mirror.test.ts': 6,
  'test/interop/tls-servers.test.ts': 15,
  'test/interop/tls.test.ts': 12,
  'test/interop/vates.test.ts': 20,
  'test/manage/growing.test.ts': 5,
  'test/mirror/copies.test.ts': 4,
  'test/mirror/grown.test.ts': 5,
  'test/mirror/hanging-store.test.ts': 8,
  'test/mirror/older-heads.test.ts': 4,
  'test/mirror/restart.test.ts': 8,
  'test/mirror/short-twice.test.ts': 5,
  'test/mirror/unread-record.test.ts': 5,
  'test/mirror/verified.test.ts': 3,
  'test/nbd/fuzz.test.ts': 15,
  'test/nbd/hostile.test.ts': 7,
  'test/nbd/negotiation.test.ts': 6,
  'test/nbd/remote.test.ts': 5,
  'test/nbd/transmission.test.ts': 10,
  'test/net/tls.test.ts': 7,
  'test/simulation/operator.test.ts': 8,
  'test/simulation/parts.test.ts': 8,
  'test/simulation/scenarios/defaults.test.ts': 8,
  'test/simulation/scenarios/ghosts.test.ts': 8,
  'test/simulation/scenarios/growth.test.ts': 8,
  'test/simulation/scenarios/identity.test.ts': 8,
  'test/simulation/scenarios/membership.test.ts': 8,
  'test/simulation/scenarios/outages.test.ts': 8,
  'test/simulation/scenarios/quorum.test.ts': 8,
  'test/simulation/scenarios/resync.test.ts': 8,
  'test/simulation/scenarios/starts.test.ts': 8,
  'test/simulation/scenarios/trees.test.ts': 8,
  'test/simulation/scenarios/wire.test.ts': 8,
  'test/simulation/seeds.test.ts': 8,
  'test/soak/backup.test.ts': 30,
  'test/soak/heads.test.ts': 30,
  'test/soak/idle.test.ts': 30,
  'test/soak/kills.test.ts': 60,
  'test/soak/late.test.ts': 30,
  'test/soak/mirror.test.ts': 30,
  'test/soak/remote.test.ts': 30,
  'test/soak/trees.test.ts': 30,
  'test/vm/attach.test.ts': 90,
  'test/vm/kernel.test.ts': 90,
  'test/wire/fuzz.test.ts': 15,
  'test/wire/hostile.test.ts': 5,
  'test/wire/strangers.test.ts': 3,
}

function compiledOf(source: string): string {
  return join('dist', source).replace(/\.ts$/, '.js')
}

export function sourceOf(compiled: string): string {
  return compiled.replace(/^dist\//, '').replace(/\.js$/, '.ts')
}

/** The compiled files of the quick run, as paths below the root of the project. */
export function quickTests(): string[] {
  const names = readdirSync('test', { recursive: true, encoding: 'utf8' })
  const sources = names
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => join('test', name))
  return sources.filter((source) => !(source in slowSeconds)).map(compiledOf)
}

/** What a run of these compiled files takes. */
export function estimatedSeconds(files: readonly string[]): number {
  return files.reduce((sum, file) => sum + (slowSeconds[sourceOf(file)] ?? othersSeconds), 0)
}
