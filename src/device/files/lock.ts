import { spawn } from 'node:child_process'
import { StorageError } from '../../base/errors.ts'

/**
 * Makes `fd` the only writer of its file or disk, among all processes and all devices of this one.
 *
 * Node has no flock(2), so the program does it, on our descriptor: such a lock belongs to the open
 * file, which the program shares, and stays when the program ends. The kernel drops it when we
 * close the descriptor or die, however we die. It binds who asks for it: other targets, and
 * whatever else locks this way, such as udev while it looks at a disk.
 */
export function lockForWriting(fd: number, path: string, device: string): Promise<void> {
  return new Promise((resolve, reject) => {
    // In the child the descriptor has number 3.
    const program = spawn('flock', ['-x', '-n', '3'], { stdio: ['ignore', 'ignore', 'ignore', fd] })
    program.on('error', (cause) => {
      const message = `cannot lock ${path}: the program flock (of util-linux) does not start`
      reject(new StorageError('CONFIG', message, device, cause))
    })
    program.on('exit', (status) => {
      if (status === 0) resolve()
      else if (status === 1) {
        const message = `${path} is open for writing in another process or device`
        reject(new StorageError('CLAIMED', message, device))
      } else reject(new StorageError('IO', `cannot lock ${path}: flock exited ${status}`, device))
    })
  })
}
