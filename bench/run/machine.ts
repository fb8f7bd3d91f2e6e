import { execFileSync } from 'node:child_process'
import os from 'node:os'
import { root } from '../servers/trees.ts'

/** What a figure is worth nothing without. */
export interface Machine {
  readonly processor: string
  readonly cores: number
  readonly memoryBytes: number
  readonly kernel: string
  readonly node: string
  /** Of the tree that was measured; `+` when it had changes that are in no commit. */
  readonly commit: string
  /** One-minute load average before the run: other work makes figures worse. */
  readonly loadBefore: number
  /** Versions of the peers and of fio; absent ones are missing here. */
  readonly programs: Readonly<Record<string, string>>
}

const versioned = ['fio', 'nbdkit', 'qemu-nbd', 'qemu-storage-daemon'] as const

export function describeMachine(): Machine {
  const programs: Record<string, string> = {}
  for (const name of versioned) {
    const version = /\d+\.[\d.]+/.exec(outputOf(name, ['--version']))?.[0]
    if (version !== undefined) programs[name] = version
  }
  return {
    processor: os.cpus()[0]?.model.trim() ?? '?',
    cores: os.cpus().length,
    memoryBytes: os.totalmem(),
    kernel: os.release(),
    node: process.version,
    commit: commitOf(root),
    loadBefore: os.loadavg()[0] ?? 0,
    programs,
  }
}

/** The commit of a checkout, with a `+` when it has changes that are in none; '' without git. */
export function commitOf(folder: string): string {
  const git = (...words: string[]): string => outputOf('git', ['-C', folder, ...words])
  const changed = git('status', '--porcelain', '--untracked-files=no') !== ''
  return git('rev-parse', '--short', 'HEAD').trim() + (changed ? '+' : '')
}

/** What it prints, on either channel; '' when it cannot be run. */
function outputOf(program: string, parameters: readonly string[]): string {
  try {
    return execFileSync(program, parameters, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
  } catch {
    return ''
  }
}
