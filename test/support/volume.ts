import { setTimeout as sleep } from 'node:timers/promises'
import { dst } from './process.ts'
import { mustRun } from './programs.ts'

/** A mirror as `dst status --json` shows it, as far as tests look. */
export interface VolumeStatus {
  readonly legs: Readonly<Record<string, { readonly state: string; readonly reason?: string }>>
}

/** Asks a running target; throws what the command printed if it does not answer with JSON. */
export async function statusOf(folder: string, management: string): Promise<unknown> {
  const { stdout, stderr } = await dst(['status', '--json', '--management', management], folder)
  try {
    return JSON.parse(stdout) as unknown
  } catch {
    throw new Error(`dst status --json: ${stdout}${stderr}`)
  }
}

/** The first mirror in a status, wherever the tree has it. */
export function findVolume(status: unknown): VolumeStatus | null {
  if (typeof status !== 'object' || status === null) return null
  const { legs } = status as { legs?: unknown }
  if (typeof legs === 'object' && legs !== null && !Array.isArray(legs))
    return status as VolumeStatus
  for (const value of Object.values(status)) {
    const found = findVolume(value)
    if (found !== null) return found
  }
  return null
}

/** Waits until every leg of the target's mirror has one of the states. */
export async function legsReach(
  folder: string,
  management: string,
  states: readonly string[],
  timeout: number,
): Promise<VolumeStatus> {
  const deadline = performance.now() + timeout
  for (;;) {
    const volume = findVolume(await statusOf(folder, management))
    if (volume !== null && Object.values(volume.legs).every(({ state }) => states.includes(state)))
      return volume
    if (performance.now() > deadline)
      throw new Error(`legs are not ${states.join(' or ')}: ${JSON.stringify(volume, null, 1)}`)
    await sleep(200)
  }
}

export async function exportSize(uri: string): Promise<number> {
  return Number(await mustRun('nbdinfo', ['--size', uri]))
}
