import { StorageError } from './errors.ts'

/** What is under a key is not what was saved there, however often it is read. */
export class DamagedError extends StorageError {
  constructor(message: string) {
    super('IO', message)
  }
}

/**
 * Where a head keeps its own records, one text per key. `save` resolves when the text survives a
 * crash of the machine, and leaves the old text or the new one whatever happens in between. Saves
 * of one key take effect in the order they were asked for, also where nobody waits for them.
 */
export interface StateStore {
  /**
   * Null when nothing was saved under the key. Rejects when it cannot be read, with DamagedError
   * where that is for good.
   */
  load(key: string): Promise<string | null>
  save(key: string, text: string): Promise<void>
  /**
   * Keeps what is under the key, readable or not, under another name as well, where no program
   * looks for it. Resolves to that name, '' where there is nothing; rejects when it cannot be kept.
   * What is under the key stays there until something is saved in its place.
   */
  setAside(key: string): Promise<string>
}

/** Keeps records in memory: for tests, and for a mirror whose legs are memory. */
export class MemoryStore implements StateStore {
  private readonly texts = new Map<string, string>()

  load(key: string): Promise<string | null> {
    return Promise.resolve(this.texts.get(key) ?? null)
  }

  save(key: string, text: string): Promise<void> {
    this.texts.set(key, text)
    return Promise.resolve()
  }

  setAside(key: string): Promise<string> {
    const text = this.texts.get(key)
    const name = text === undefined ? '' : `${key}.damaged`
    if (text !== undefined) this.texts.set(name, text)
    return Promise.resolve(name)
  }
}
