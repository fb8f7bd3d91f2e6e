import { open, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { StorageError, systemError } from '../base/errors.ts'
import { syncFolder } from '../base/folders.ts'
import { MiB } from '../base/size.ts'
import type { Medium } from '../devices/crypt/medium.ts'
import type { Stored } from '../devices/crypt/store.ts'

/** Bytes before the data: other programs make no more than half of this. */
const headerBytesMax = 256 * MiB

/**
 * Copies everything before the data of an encrypted device to a new file, which is durable then.
 * Resolves to its length in bytes. Rejects if the file is there; leaves none
 * that is not all.
 */
export async function backUp(medium: Medium, { header }: Stored, path: string): Promise<number> {
  const { payload } = header
  if (payload > headerBytesMax)
    throw new StorageError('UNSUPPORTED', `the header ends at byte ${payload}: that is no header`)
  try {
    const file = await open(path, 'wx', 0o600)
    try {
      for (let at = 0; at < payload; at += MiB)
        await file.writeFile(await medium.read(at, Math.min(MiB, payload - at)))
      await file.sync()
      await syncFolder(dirname(path))
    } catch (error) {
      // A part of a header would be taken for a copy, and is none.
      await unlink(path)
      throw error
    } finally {
      await file.close()
    }
  } catch (error) {
    throw systemError(error, `the copy ${path}`)
  }
  return payload
}
