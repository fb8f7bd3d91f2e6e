import { statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { StateStore } from '../base/store.ts'
import { digest } from '../device/facts.ts'
import { FileStore } from './state.ts'

/**
 * Where a target remembers what counts in this boot alone, in memory: its disk may be what fails.
 * Each state directory has one, because targets share the folder. Null where there is no folder
 * that nobody else can write to.
 */
export function spareOf(
  directory: string,
  runtime = runtimeFolder(process.env),
): StateStore | null {
  if (runtime === null) return null
  return new FileStore(join(runtime, `dst-${digest(resolve(directory))}`))
}

/**
 * A service's own folder, a user's, or root's: a start of the machine finds each of them empty. One
 * of another user, whose variables came along with `su`, cannot be read, or he can change it.
 */
export function runtimeFolder(
  variables: Readonly<Record<string, string | undefined>>,
  user = process.getuid?.(),
): string | null {
  const { RUNTIME_DIRECTORY: service = '', XDG_RUNTIME_DIR: own = '' } = variables
  const [first = ''] = service.split(':')
  for (const folder of [first, own]) if (folder !== '' && !isOfAnother(folder, user)) return folder
  return user === 0 ? '/run' : null
}

function isOfAnother(folder: string, user: number | undefined): boolean {
  try {
    return statSync(folder).uid !== user
  } catch {
    // It is not there yet.
    return false
  }
}
