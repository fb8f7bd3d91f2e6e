import { systemError } from '../../base/errors.ts'
import { DamagedError } from '../../base/store.ts'
import { stored } from '../deadline.ts'
import { parseRecordText, type VolumeRecord } from '../record.ts'
import type { Volume } from '../volume.ts'

/** What a head finds of its own; `value` is null as well where there is nothing, and never was. */
export interface Kept<T> {
  readonly value: T | null
  /** Whether there is something, of which `value` says nothing. */
  readonly lost: boolean
  /** Why it could not be read this time; '' where that would help no more. */
  readonly unread: string
}

/**
 * How a head reads a file of its state directory. What is damaged, or makes no sense, is lost. A
 * read that fails says nothing of what is there: nothing durable may follow from it, and the next
 * try reads again. Never rejects.
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
 * What it knows besides its record, each read once. Returns why some of it cannot be read now, ''
 * if all is known: whoever starts all the same does without.
 */
export async function loadMemory(volume: Volume): Promise<string> {
  const { head, above, marks } = volume
  const unread = await Promise.all([head.load(volume), above.load(volume), marks.load()])
  return unread.filter(Boolean).join('; ')
}

/**
 * Its record. One that is lost may be read later all the same: it is doubted once this head claims
 * legs without it, which replaces what tells of another head.
 */
export async function loadOwn(volume: Volume): Promise<Kept<VolumeRecord>> {
  const kept = await readOwn({ volume, suffix: '' }, parseRecordText)
  volume.head.looked(kept)
  return kept
}
