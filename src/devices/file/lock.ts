import { StorageError } from '../../base/errors.ts'
import { runProgram } from '../../base/program.ts'

/** Seconds to wait for a lock: the child of a killed target may still have it for a moment. */
const waitSeconds = 2

/**
 * Makes `fd` the only writer of its file or disk, among all processes and all devices of this one.
 * Rejects with CLAIMED when another has the lock, CONFIG without the program flock, BUSY when no
 * program can be started now.
 *
 * Node has no flock(2), so the program locks our descriptor: the lock belongs to the open file,
 * which the program shares, and stays when the program ends. The kernel drops it when this process
 * and every child with the descriptor have closed it or died, in whatever way. It binds programs
 * that ask for the lock: other targets, and udev while it examines a disk.
 */
export async function lockForWriting(fd: number, path: string, device: string): Promise<void> {
  // Not every flock can wait, so try without waiting first.
  if (await tryLock(fd, ['-n'], path, device)) return
  if (await tryLock(fd, ['-w', `${waitSeconds}`], path, device)) return
  const message = `${path} is open for writing in another process or device`
  throw new StorageError('CLAIMED', message, device)
}

/** Resolves to false when another has the lock, or the program does not know the options. */
async function tryLock(
  fd: number,
  words: readonly string[],
  path: string,
  device: string,
): Promise<boolean> {
  // In the child the descriptor has number 3.
  const { code } = await runProgram('flock', ['-x', ...words, '3'], {
    stdio: ['ignore', 'ignore', 'ignore', fd],
  }).catch((cause: unknown) => {
    const { code, message } = cause as StorageError
    const busy = code === 'BUSY'
    const what = busy ? message : 'the program flock (of util-linux) does not start'
    const said = `cannot lock ${path}: ${what}`
    throw new StorageError(busy ? 'BUSY' : 'CONFIG', said, device, cause)
  })
  if (code === 0 || code === 1) return code === 0
  throw new StorageError('IO', `cannot lock ${path}: flock exited ${code}`, device)
}
