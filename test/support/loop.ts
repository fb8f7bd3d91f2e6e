import { execFileSync } from 'node:child_process'
import { existsSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Context } from 'mocha'
import { needPrograms } from './programs.ts'

/** Disks of this machine that are files, so that tests may do with them what they like. */
export class Loops {
  private readonly disks: string[] = []

  /** Skips the tests of a `before` where there are none. */
  static need(context: Context): void {
    needPrograms(context, 'losetup')
    if (process.getuid?.() === 0 && existsSync('/dev/loop-control')) return
    console.log('      skipped: loop devices need root and /dev/loop-control')
    context.skip()
  }

  /** A disk of so many bytes; its path. */
  make(folder: string, bytes: number, ...words: readonly string[]): string {
    const file = join(folder, `loop-${this.disks.length}.img`)
    writeFileSync(file, '')
    truncateSync(file, bytes)
    const disk = run('losetup', '--find', '--show', ...words, file).trim()
    this.disks.push(disk)
    return disk
  }

  close(): void {
    for (const disk of this.disks.splice(0)) run('losetup', '--detach', disk)
  }
}

/** Runs a program; throws when it fails. What it printed. */
export function run(name: string, ...words: readonly string[]): string {
  return execFileSync(name, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}
