import type { StateStore } from '../../src/base/store.ts'

/** Keeps the records of a head in memory. */
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
