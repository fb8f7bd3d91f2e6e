import { constants } from 'node:fs'
import fs from 'node:fs/promises'
import { join } from 'node:path'
import { StorageError, systemError } from '../base/errors.ts'
import { makeFolder } from '../base/folders.ts'
import type { StateStore } from '../base/store.ts'

/** Nothing is written through a link, in whoever's folder it is. */
const newFile = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW

/** Records in a directory, one file per key, replaced as a whole. */
export class FileStore implements StateStore {
  private readonly directory: string
  /** The saves of a key under way: they share a temporary name, and the last one counts. */
  private readonly saving = new Map<string, Promise<void>>()

  constructor(directory: string) {
    this.directory = directory
  }

  async load(key: string): Promise<string | null> {
    try {
      return await fs.readFile(this.pathOf(key), 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw systemError(error, `reading ${this.pathOf(key)}`)
    }
  }

  save(key: string, text: string): Promise<void> {
    const replace = (): Promise<void> => this.replace(this.pathOf(key), text)
    // A failure is told to who asked for that save, and does not keep the next from trying.
    const saved = (this.saving.get(key) ?? Promise.resolve()).then(replace, replace)
    this.saving.set(key, saved)
    return saved
  }

  private async replace(path: string, text: string): Promise<void> {
    try {
      await makeFolder(this.directory, 0o700)
      const temporary = `${path}.new`
      const file = await fs.open(temporary, newFile, 0o600)
      try {
        await file.writeFile(text)
        await file.sync()
      } finally {
        await file.close()
      }
      await fs.rename(temporary, path)
      await syncDirectory(this.directory)
    } catch (error) {
      const doing = `saving ${path}`
      if (!(error instanceof StorageError)) throw systemError(error, doing)
      throw new StorageError(error.code, `${doing}: ${error.message}`, '', error)
    }
  }

  private pathOf(key: string): string {
    return join(this.directory, `${key}.json`)
  }
}

/** Makes a rename durable. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await fs.open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/** The key of a device's record: its path, spelt with letters, digits, '-' and '_' alone. */
export function keyOf(path: string): string {
  return path.replace(/[^A-Za-z0-9-]/g, (letter) => `_${letter.charCodeAt(0).toString(16)}`)
}
