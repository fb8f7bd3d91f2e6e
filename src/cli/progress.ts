import { setTimeout as sleep } from 'node:timers/promises'
import { StorageError } from '../base/errors.ts'
import { describeDuration } from '../base/duration.ts'
import { isObject } from '../base/guards.ts'
import { describeSize } from '../base/size.ts'
import type { Device, Status } from '../manage/status.types.ts'
import type { ManagementClient } from './client.ts'
import { printLine } from './print.ts'

/** Milliseconds between two looks at the status. */
const intervalMs = 500
const barWidth = 30

/** Shows the progress of a leg until it is in sync. Rejects when it leaves the volume. */
export async function waitForLeg(
  client: ManagementClient,
  volume: string,
  leg: string,
): Promise<void> {
  try {
    for (;;) {
      const found = findMirror(await client.status(), volume)?.legs?.[leg]
      if (found?.state === 'in-sync') break
      if (found === undefined || (found.state !== 'syncing' && found.state !== 'missing')) {
        const state = found === undefined ? 'gone' : `${found.state}: ${found.reason ?? ''}`
        throw new StorageError('IO', `the leg is ${state}`, `${volume}/${leg}`)
      }
      draw(found['resync'])
      await sleep(intervalMs)
    }
  } finally {
    clear()
  }
}

/** Prints the state of a volume, and the reason if it does not serve. */
export async function tellVolume(client: ManagementClient, volume: string): Promise<void> {
  const found = findMirror(await client.status(), volume)
  const volumeWord = found?.details['volume']
  const word = typeof volumeWord === 'string' ? volumeWord : (found?.state ?? 'gone')
  const reason = found?.reason ?? ''
  printLine(`${volume} is ${word}${reason === '' ? '' : `: ${reason}`}`)
}

/** Prints the state of a leg after a command, also where the output is no terminal. */
export async function tellLeg(
  client: ManagementClient,
  volume: string,
  leg: string,
): Promise<void> {
  const found = findMirror(await client.status(), volume)?.legs?.[leg]
  const name = `${volume}/${leg}`
  if (found === undefined) printLine(`${name} is no leg any more`)
  else if (found.state === 'syncing')
    printLine(`${name} is syncing: \`dst status ${volume}\` shows how far it is`)
  else printLine(`${name} is ${found.state}`)
}

/** Shows the progress of a verify until `work` is done. Settles as `work` does. */
export async function whileVerifying<T>(
  client: ManagementClient,
  volume: string,
  work: Promise<T>,
): Promise<T> {
  const over = work.then(
    () => true,
    () => true,
  )
  while (!(await Promise.race([over, sleep(intervalMs, false)]))) {
    // If the target does not answer, `work` fails, too, and that error is reported.
    const status = await client.status().catch(() => null)
    if (status !== null) draw(findMirror(status, volume)?.details['verify'])
  }
  clear()
  return work
}

/** The mirror at a path of the tree. */
function findMirror(status: unknown, path: string): Device | null {
  const search = (devices: readonly (Device | null)[]): Device | null => {
    for (const device of devices) {
      if (device === null) continue
      if (device.path === path) return device
      const legs = Object.values(device.legs ?? {}).map((leg) => leg.device)
      const found = search([...Object.values(device.children), ...legs])
      if (found !== null) return found
    }
    return null
  }
  return search(Object.values((status as Status).devices))
}

/** Draws one line with a bar over the last one, on a terminal only. */
function draw(progress: unknown): void {
  if (!process.stderr.isTTY || !isObject(progress)) return
  process.stderr.write(`\r${progressLine(progress)}\u001b[K`)
}

function clear(): void {
  if (process.stderr.isTTY) process.stderr.write('\r\u001b[K')
}

/** The progress as text: `[######------]  37.2%  118.0 MiB/s  5m 41s left`. */
export function progressLine(progress: Readonly<Record<string, unknown>>): string {
  const number = (key: string): number => {
    const value = progress[key]
    return typeof value === 'number' && Number.isFinite(value) ? value : 0
  }
  const percent = Math.min(100, Math.max(0, number('percent')))
  const full = Math.round((percent / 100) * barWidth)
  const bar = `[${'#'.repeat(full)}${'-'.repeat(barWidth - full)}]`
  const speed = `${describeSize(number('bytesPerSecond'))}/s`
  const left = progress['secondsLeft']
  const time = typeof left === 'number' ? [`${describeDuration(left * 1000)} left`] : []
  return [bar, `${percent.toFixed(1)}%`, speed, ...time].join('  ')
}
