import { systemError } from '../../base/errors.ts'
import { DamagedError } from '../../base/store.ts'
import { stored } from '../deadline.ts'
import { parseRecordText, type VolumeRecord } from '../record.ts'
import type { Volume } from '../volume.ts'

/** What a head finds in one of its files; `value` is null as well where there never was any. */
export interface Kept<T> {
  readonly value: T | null
  /** Whether the file is there, but `value` does not say what is in it. */
  readonly lost: boolean
  /** Why it could not be read this time; '' where another try would not help. */
  readonly unread: string
}

/**
 * Reads a file of the head's state directory. What is damaged, or makes no sense, is lost. A read
 * that fails says nothing of what is there: nothing durable may follow from it, and the next try
 * reads again. Never rejects.
 */
export async function readOwn<T>(
  { volume, suffix }: { readonly volume: Volume; readonly suffix: string },
  parse: (text: string) => T | null,
): Promise<Kept<T>> {
  const { store, log, path } = volume
  const file = `${volume.key}${suffix}`
  const lost = (error?: unknown): Kept<T> => {
    log.error({ volume: path, err: error }, `${file} of ${path} is damaged and not used`)
    return { value: null, lost: true, unread: '' }
  }
  try {
    const text = await stored(volume, store?.load(file))
    if (text == null) return { value: null, lost: false, unread: '' }
    const value = parse(text)
    return value === null ? lost() : { value, lost: false, unread: '' }
  } catch (error) {
    if (error instanceof DamagedError) return lost(error)
    const { message } = systemError(error, 'reading')
    const unread = `${file} in the state directory cannot be read: ${message}`
    return { value: null, lost: true, unread }
  }
}

/**
 * Reads what the head keeps besides its record, each file once. Resolves to why some of it cannot
 * be read now, '' if all is known; a start that goes on all the same does without.
 */
export async function loadMemory(volume: Volume): Promise<string> {
  const { head, above, marks } = volume
  const unread = await Promise.all([head.load(volume), above.load(volume), marks.load()])
  return unread.filter(Boolean).join('; ')
}

/**
 * Reads the head's record. A lost record may be readable later all the same: it is doubted once
 * this head claims legs without it, because the claim replaces what tells of another head.
 */
export async function loadOwn(volume: Volume): Promise<Kept<VolumeRecord>> {
  const kept = await readOwn({ volume, suffix: '' }, parseRecordText)
  volume.head.looked(kept)
  return kept
}
