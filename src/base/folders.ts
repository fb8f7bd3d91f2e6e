import fs from 'node:fs/promises'
import { dirname } from 'node:path'
import { StorageError, systemError } from './errors.ts'

/**
 * Makes a folder and those above it that are missing, each with `mode`. Rejects with a StorageError
 * that names the folder.
 *
 * Does not use Node's own `recursive`: where the system says ENOENT although the parent is there
 * (/proc, automounts, a working directory that was removed) Node tries again for ever.
 */
export async function makeFolder(path: string, mode = 0o777): Promise<void> {
  try {
    await makeEach(path, mode)
  } catch (cause) {
    throw systemError(cause, `making the folder ${path}`)
  }
}

async function makeEach(path: string, mode: number): Promise<void> {
  const failure = await attempt(path, mode)
  if (failure === null) return
  const parent = dirname(path)
  if (failure.code === 'EEXIST')
    throw new StorageError('IO', `making the folder ${path}: a file is in its place`, '', failure)
  if (failure.code !== 'ENOENT') throw failure
  if (parent !== path && !(await isFolder(parent))) await makeEach(parent, mode)
  // Try again also where the parent exists: another process may have made it just now. Only once:
  // where the parent takes no folders, each attempt would end the same way.
  const again = await attempt(path, mode)
  if (again?.code === 'ENOENT') {
    const what = `making the folder ${path}: ${parent} takes no folders (ENOENT)`
    throw new StorageError('IO', what, '', again)
  }
  if (again !== null) throw again
}

/** Makes one folder. Returns null if it is there afterwards, also if it was there before. */
async function attempt(path: string, mode: number): Promise<NodeJS.ErrnoException | null> {
  try {
    await fs.mkdir(path, { mode })
    return null
  } catch (cause) {
    // Some file systems refuse before they check whether the folder exists.
    return (await isFolder(path)) ? null : (cause as NodeJS.ErrnoException)
  }
}

/** Makes a new or changed name in the folder durable. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await fs.open(path)
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await fs.stat(path)).isDirectory()
  } catch {
    return false
  }
}
