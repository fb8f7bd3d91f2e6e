import fs, { constants } from 'node:fs'
import { StorageError, systemError } from '../base/errors.ts'
import { runProgram } from '../base/program.ts'

/** The rights of a unix socket's file, as chmod(1) and chown(1) have them: who may connect. */
export interface SocketAccess {
  /** Permission bits. */
  readonly mode: number
  /** The user's name or number; null keeps that of the process. */
  readonly owner: string | null
  /** The group's name or number; null keeps that of the process. */
  readonly group: string | null
}

/** Only the user of the process may connect, whatever its umask is. */
export const ownerOnly: SocketAccess = { mode: 0o600, owner: null, group: null }

/** Reads permission bits such as `0660`; null when the text is something else. */
export function parseMode(text: string): number | null {
  return /^0?[0-7]{3}$/.test(text) ? parseInt(text, 8) : null
}

/**
 * Runs `bind`, which makes a unix socket before it returns. The socket is made for its owner alone,
 * so that no client connects before `giveAccess` has set its rights.
 */
export function bindPrivately(bind: () => void): void {
  const mask = process.umask(0o177)
  try {
    bind()
  } finally {
    process.umask(mask)
  }
}

/** Linux's O_PATH: the descriptor stands for the name, and needs no right to the file itself. */
const pathOnly = 0o10000000

/**
 * Gives a socket that `bindPrivately` made its rights. Rejects with CONFIG when the user or group
 * does not exist or may not be set. The folder may belong to another user: a link in the socket's
 * place is not followed, and the file that was found to be a socket is the one that changes.
 */
export async function giveAccess(path: string, access: SocketAccess): Promise<void> {
  const { mode, owner, group } = access
  if (mode === ownerOnly.mode && owner === null && group === null) return
  const uid = owner === null ? -1 : await idOf('passwd', owner)
  const gid = group === null ? -1 : await idOf('group', group)
  let fd: number | null = null
  try {
    fd = fs.openSync(path, pathOnly | constants.O_NOFOLLOW)
    if (!fs.fstatSync(fd).isSocket()) throw new StorageError('CONFIG', `${path} is not a socket`)
    const place = `/proc/self/fd/${fd}`
    if (uid !== -1 || gid !== -1) fs.chownSync(place, uid, gid)
    fs.chmodSync(place, mode)
  } catch (cause) {
    const { message } = systemError(cause, `setting owner, group and mode of ${path}`)
    throw new StorageError('CONFIG', `${message}${hintFor(cause)}`, '', cause)
  } finally {
    if (fd !== null) fs.closeSync(fd)
  }
}

function hintFor(cause: unknown): string {
  if ((cause as NodeJS.ErrnoException).code !== 'EPERM') return ''
  return '; only root may give it to another user, or to a group that the target is not in'
}

/** The number of a user or group; names are looked up as the system does, in LDAP for example. */
async function idOf(database: 'passwd' | 'group', name: string): Promise<number> {
  if (/^\d+$/.test(name)) return Number(name)
  const { said } = await runProgram('getent', [database, name], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const id = said.split('\n')[0]!.split(':')[2]
  if (id !== undefined && /^\d+$/.test(id)) return Number(id)
  const what = database === 'passwd' ? 'user' : 'group'
  throw new StorageError('CONFIG', `there is no ${what} "${name}" on this machine`)
}
