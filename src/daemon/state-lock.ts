import { constants } from 'node:fs'
import fs, { type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { StorageError, systemError } from '../base/errors.ts'
import { makeFolder } from '../base/folders.ts'
import type { Log } from '../base/log.ts'
import { lockForWriting } from '../devices/file/lock.ts'

const { O_RDWR, O_CREAT, O_NOFOLLOW } = constants

/** Bytes of the lock file that are read. */
const ownerBytesMax = 1024

/**
 * Keeps a state directory to one process: of two that save in it, each would drop the records of
 * the other, such as the claims of heads. The file `lock` in it is locked until the process ends,
 * in whatever way, and names the process.
 */
export class StateLock {
  private readonly directory: string
  private readonly log: Log
  private file: FileHandle | null = null

  constructor(directory: string, log: Log) {
    this.directory = directory
    this.log = log
  }

  /**
   * Resolves when this process has the directory, and also, after logging an error, when it cannot
   * be made or locked at all. Rejects with CONFIG when another process has it, and names that one.
   */
  async acquire(): Promise<void> {
    const path = join(this.directory, 'lock')
    try {
      await makeFolder(this.directory, 0o700)
      this.file = await fs.open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600)
      await lockForWriting(this.file.fd, path, '')
      await this.sayWhose(this.file)
    } catch (error) {
      const failure = systemError(error, `locking ${path}`)
      const owner = failure.code === 'CLAIMED' ? await ownerOf(this.file) : null
      await this.release()
      if (owner !== null) throw this.refusal(owner)
      this.log.error({ err: failure }, 'the state directory is not locked')
    }
  }

  async release(): Promise<void> {
    const { file } = this
    this.file = null
    await file?.close().catch(() => undefined)
  }

  private async sayWhose(file: FileHandle): Promise<void> {
    const words = process.argv
      .slice(2)
      .join(' ')
      .slice(0, ownerBytesMax / 4)
    await file.truncate(0)
    await file.write(`${process.pid} ${words}\n`, 0)
  }

  private refusal(owner: string): StorageError {
    const [pid = '', ...words] = owner.split(' ')
    const who = /^\d+$/.test(pid) ? `process ${pid} (dst ${words.join(' ')})` : 'another process'
    const what = `${who} uses the state directory ${this.directory}`
    return new StorageError('CONFIG', `${what}: give each target its own, "state.directory"`)
  }
}

/** Resolves to the owner as it stands in the lock file, '' when that cannot be read. */
async function ownerOf(file: FileHandle | null): Promise<string> {
  const bytes = Buffer.alloc(ownerBytesMax)
  const read = await file?.read(bytes, 0, bytes.length, 0).catch(() => null)
  const text = bytes.toString('utf8', 0, read?.bytesRead ?? 0)
  return text.split('\n', 1)[0]!.trim()
}
