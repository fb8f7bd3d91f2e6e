import { statSync } from 'node:fs'
import { dirname } from 'node:path'
import { parseRecordText } from '../mirror/record.ts'
import type { LegSpot, Tree } from './build.ts'
import { keyOf } from './state.ts'

/**
 * Why the file of a leg is not made though `create` says so: its file system may not be mounted,
 * and a second copy would be filled in the wrong place. Null when it is made.
 */
export async function whyNotMade(
  { volume, name }: LegSpot,
  path: string,
  { store, replaced }: Pick<Tree, 'store' | 'replaced'>,
): Promise<string | null> {
  const folder = dirname(path)
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true)
    return `there is no folder ${folder}`
  if (replaced.has(`${volume}/${name}`)) return null
  const text = await store.load(keyOf(volume))
  if (text === null) return null
  const record = parseRecordText(text)
  if (record === null) return `what the head remembers of ${volume} is damaged`
  const member = record.members.find((each) => each.name === name)
  // One that was never filled is no more than a plan.
  if (member === undefined || (member.state !== 'in-sync' && member.left === null)) return null
  return (
    `${volume} has had this leg: is its file system mounted? ` +
    `\`dst leg attach ${volume} ${name} --replace\` makes and fills it`
  )
}
