import { StorageError } from './errors.ts'

/** The text under a key is not the one that was saved, and reading it again will not help. */
export class DamagedError extends StorageError {
  constructor(message: string) {
    super('IO', message)
  }
}

/**
 * Keeps a head's own records, one text per key. `save` resolves when the text survives a crash of
 * the machine, and leaves the old text or the new one whatever happens in between. Saves of one key
 * take effect in the order of the calls, also if the caller does not wait for them.
 */
export interface StateStore {
  /**
   * Resolves to null when nothing was saved under the key. Rejects when the text cannot be read:
   * with DamagedError where trying again will not help.
   */
  load(key: string): Promise<string | null>
  save(key: string, text: string): Promise<void>
  /**
   * Keeps the text under the key, readable or not, under a second name that no program reads.
   * Resolves to that name, '' when there is no text; rejects when it cannot be kept. The text stays
   * under its key until another is saved there.
   */
  setAside(key: string): Promise<string>
}
