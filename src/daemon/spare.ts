import { statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { StateStore } from '../base/store.ts'
import { digest } from '../device/facts.ts'
import { FileStore } from './state.ts'

/**
 * A store in memory for records that count until the machine restarts: the disk of the state
 * directory may be the one that fails. Each state directory has its own, because targets share the
 * folder. Null where there is no folder that this user alone can write to.
 */
export function spareOf(
  directory: string,
  runtime = runtimeFolder(process.env),
): StateStore | null {
  if (runtime === null) return null
  return new FileStore(join(runtime, `dst-${digest(resolve(directory))}`))
}

/**
 * The runtime folder of the service, of the user, or of root; each is empty after a start of the
 * machine. Not the folder of another user, whose variables come along with `su`: this process could
 * not use it, or that user could change what is in it.
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
    // The folder is not there yet.
    return false
  }
}
