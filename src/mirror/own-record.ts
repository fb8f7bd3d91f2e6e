import type { StorageError } from '../base/errors.ts'
import { stored } from './deadline.ts'
import { parseRecordText, type VolumeRecord } from './record.ts'
import type { Volume } from './volume.ts'

/**
 * The record in the head's own store; null where there is none that can be read. One that is there
 * all the same may be read later: it is doubted once this head claims legs without it, which
 * replaces what tells of another head. Rejects when the store does not answer.
 */
export async function loadOwn(volume: Volume): Promise<VolumeRecord | null> {
  const { store, key, head, log, path } = volume
  if (store === null) return null
  try {
    const text = (await stored(volume, store.load(key))) ?? null
    const record = text === null ? null : parseRecordText(text)
    if (text === null || record !== null) {
      head.looked('all-read')
      return record
    }
    log.error({ volume: path }, `the head's record of ${path} is damaged and not used`)
  } catch (error) {
    if ((error as StorageError).code === 'TIMEOUT') throw error
    log.error({ volume: path, err: error }, `the head's record of ${path} cannot be read`)
  }
  head.looked('unread')
  return null
}

/**
 * What became of the record where none was found: it makes no sense, may be one that cannot be read
 * now, or can be read now and could not when it was looked for.
 */
export async function lookForLostRecord(
  volume: Volume,
): Promise<'none' | 'damaged' | 'unread' | 'there'> {
  const { store, key } = volume
  if (store === null) return 'none'
  return stored(volume, store.load(key)).then(
    (text) => (text == null ? 'none' : parseRecordText(text) === null ? 'damaged' : 'there'),
    () => 'unread',
  )
}
