import { statSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Clock } from '../base/clock.ts'
import { inTime } from '../base/deadline.ts'
import type { StateStore } from '../base/store.ts'
import { parseRecordText } from '../mirror/record.ts'
import type { LegSpot } from './world.ts'
import { keyOf } from './state.ts'

/** Records of legs: the head's store, and the commands of this run. */
interface Remembered {
  readonly store: StateStore
  /** Paths of legs whose files may be made although they were there before. */
  readonly replaced: ReadonlySet<string>
  readonly clock: Clock
}

/**
 * Resolves to why the file of a leg may not be made in spite of `create`, null when it may: if its
 * file system is not mounted, a second copy would be filled in the wrong place. Rejects when the
 * head's record cannot be read.
 */
export async function whyNotMade(
  { volume, name }: LegSpot,
  path: string,
  { store, replaced, clock }: Remembered,
): Promise<string | null> {
  const folder = dirname(path)
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true)
    return `there is no folder ${folder}`
  if (replaced.has(`${volume}/${name}`)) return null
  const text = await inTime(clock, store.load(keyOf(volume)), 'the state directory')
  if (text === null) return null
  const record = parseRecordText(text)
  if (record === null) return `the head's record of ${volume} is damaged`
  const member = record.members.find((each) => each.name === name)
  // A leg that was never filled may be made again.
  if (member === undefined || (member.state !== 'in-sync' && member.left === null)) return null
  return (
    `${volume} has had this leg: is its file system mounted? ` +
    `\`dst leg attach ${volume} ${name} --replace\` makes and fills it`
  )
}
