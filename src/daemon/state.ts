import { constants } from 'node:fs'
import fs, { type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { StorageError, systemError } from '../base/errors.ts'
import { makeFolder, syncFolder } from '../base/folders.ts'
import { describeSize, MiB } from '../base/size.ts'
import { DamagedError, type StateStore } from '../base/store.ts'

const { O_RDONLY, O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW, O_NONBLOCK } = constants
/** A file is never written through a link, for another user may have put it there. */
const newFile = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW

/** Bytes of the largest file that is read: more than any record has. */
const fileBytesMax = 64 * MiB
/** The last line of a file, with the CRC-32 of all before it; older versions wrote none. */
const seal = /\n#crc32 ([0-9a-f]{8})\n$/

/**
 * Keeps records in a directory, one file per key, replaced as a whole. If a file is not as it was
 * saved, `load` rejects: a damaged record must not pass for none.
 */
export class FileStore implements StateStore {
  private readonly directory: string
  /** The saves of a key under way: they share a temporary name, and the last one counts. */
  private readonly saving = new Map<string, Promise<void>>()

  constructor(directory: string) {
    this.directory = directory
  }

  async load(key: string): Promise<string | null> {
    const path = this.pathOf(key)
    let file: FileHandle
    try {
      file = await fs.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOENT') return null
      throw code === 'ELOOP' ? damaged(path, 'a link') : systemError(error, `reading ${path}`)
    }
    try {
      return await contentOf(file, path)
    } catch (error) {
      throw systemError(error, `reading ${path}`)
    } finally {
      await file.close()
    }
  }

  save(key: string, text: string): Promise<void> {
    const replace = (): Promise<void> => this.replace(this.pathOf(key), text)
    // A failed save rejects for its caller, and does not keep the next from trying.
    const saved = (this.saving.get(key) ?? Promise.resolve()).then(replace, replace)
    this.saving.set(key, saved)
    return saved
  }

  /** Resolves when no save is under way, however those ended. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.saving.values())
  }

  private async replace(path: string, text: string): Promise<void> {
    try {
      await makeFolder(this.directory, 0o700)
      const temporary = `${path}.new`
      const file = await fs.open(temporary, newFile, 0o600)
      try {
        await file.writeFile(`${text}\n#crc32 ${checksumOf(text)}\n`)
        await file.sync()
      } finally {
        await file.close()
      }
      await fs.rename(temporary, path)
      await syncFolder(this.directory)
    } catch (error) {
      const doing = `saving ${path}`
      if (!(error instanceof StorageError)) throw systemError(error, doing)
      throw new StorageError(error.code, `${doing}: ${error.message}`, '', error)
    }
  }

  async setAside(key: string): Promise<string> {
    const path = this.pathOf(key)
    const aside = await freeName(`${path}.damaged`)
    try {
      // A link first, for the content may be unreadable; but not every file system has links.
      await fs.link(path, aside).catch(() => fs.copyFile(path, aside, constants.COPYFILE_EXCL))
      await syncFolder(this.directory).catch(async (error: unknown) => {
        // Each failed flush tries again: names that may not last must not pile up.
        await fs.rm(aside, { force: true })
        throw error
      })
      return aside
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
      throw systemError(error, `setting ${path} aside`)
    }
  }

  private pathOf(key: string): string {
    return join(this.directory, `${key}.json`)
  }
}

async function contentOf(file: FileHandle, path: string): Promise<string> {
  const stats = await file.stat()
  if (!stats.isFile()) throw damaged(path, 'no file')
  if (stats.size > fileBytesMax) throw damaged(path, `${describeSize(stats.size)} long`)
  const content = await file.readFile('utf8')
  const sealed = seal.exec(content)
  if (sealed === null) return content
  const text = content.slice(0, sealed.index)
  if (checksumOf(text) !== sealed[1])
    throw damaged(path, 'not what was saved: its checksum differs')
  return text
}

/** The path, with a number behind it if it is taken. */
async function freeName(path: string): Promise<string> {
  const isFree = (name: string): Promise<boolean> =>
    fs.lstat(name).then(
      () => false,
      () => true,
    )
  let name = path
  for (let number = 2; !(await isFree(name)); number++) name = `${path}-${number}`
  return name
}

function checksumOf(text: string): string {
  return crc32(text).toString(16).padStart(8, '0')
}

function damaged(path: string, what: string): StorageError {
  return new DamagedError(`${path} is damaged: it is ${what}`)
}

/** The key of a device's record: its path, spelt with letters, digits, '-' and '_' alone. */
export function keyOf(path: string): string {
  return path.replace(/[^A-Za-z0-9-]/g, (letter) => `_${letter.charCodeAt(0).toString(16)}`)
}
