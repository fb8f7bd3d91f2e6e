import { join } from 'node:path'
import { runProgram, type Outcome } from './programs.ts'

export interface FioOptions {
  /** Of an export, as NBD has it. */
  readonly uri: string
  readonly folder: string
  readonly seed: number
  /** The range that is written and verified, as fio has sizes. */
  readonly size: string
  /** Operations per second at most. */
  readonly rate: number
  /** Milliseconds for the whole pass. */
  readonly timeout: number
}

/**
 * Writes every block of a range once, in random order, with checksums and numbers in each, reads
 * back while it goes on and all of it at the end. Any error and any wrong block ends it.
 */
export function fioPass(options: FioOptions): Promise<Outcome> {
  const args = [
    '--name=pass',
    '--ioengine=nbd',
    `--uri=${options.uri}`,
    '--rw=randwrite',
    '--bs=4k',
    '--iodepth=16',
    `--size=${options.size}`,
    `--rate_iops=${options.rate},${options.rate}`,
    `--randseed=${options.seed}`,
    '--verify=crc32c',
    '--verify_backlog=1024',
    '--verify_fatal=1',
    '--do_verify=1',
    '--verify_state_save=0',
    `--aux-path=${join(options.folder)}`,
  ]
  return runProgram('fio', args, { cwd: options.folder, timeout: options.timeout })
}

/** Passes, one after the other, for so many seconds; throws what the first bad one printed. */
export async function fioPasses(
  options: Omit<FioOptions, 'seed' | 'timeout'>,
  seconds: number,
): Promise<number> {
  const end = performance.now() + seconds * 1000
  let passes = 0
  do {
    passes++
    // Requests that are held for long are no error: only silence for minutes is.
    const outcome = await fioPass({ ...options, seed: passes, timeout: 300_000 })
    if (outcome.code !== 0)
      throw new Error(
        `fio, pass ${passes}: exit ${outcome.code ?? 'killed'}\n${outcome.stdout}${outcome.stderr}`,
      )
  } while (performance.now() < end)
  return passes
}
