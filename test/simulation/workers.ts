import { fork, type ChildProcess } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { MiB } from '../../src/base/size.ts'
import type { Outcome } from './run.ts'

/** What is run: seeds, or plays of `crash-points.ts` by their numbers. */
export interface Work {
  readonly kind: 'seeds' | 'singles' | 'pairs'
  /** Part of the names of the scripts that are played. */
  readonly only: string
  /** The blow that they are played with; '' for all. */
  readonly blow: string
  /** Of so many numbers one is run. */
  readonly step: number
  /** Each twice: the second must be the same. */
  readonly repeat: boolean
}

/** What a worker is asked for. */
export interface Order extends Work {
  readonly from: number
  readonly count: number
}

/** Seeds in one order: few enough to share the work evenly, and to stop soon. */
const batchSeeds = 10
const workersMax = 4

/**
 * glibc keeps memory of this size for the disks of the next seed; otherwise it gives the memory
 * back to the system and asks for it again. Other C libraries ignore these.
 */
const env = {
  ...process.env,
  MALLOC_MMAP_THRESHOLD_: String(32 * MiB),
  MALLOC_TRIM_THRESHOLD_: String(512 * MiB),
  MALLOC_TOP_PAD_: String(16 * MiB),
}

/** Processes that run seeds side by side. */
export class Workers {
  private readonly program: string
  private readonly count: number

  /** `program` is the worker's file; another than this build's own for planted defects. */
  constructor(
    program = fileURLToPath(new URL('worker.js', import.meta.url)),
    count = Math.min(workersMax, availableParallelism()),
  ) {
    this.program = program
    this.count = count
  }

  /** Runs `total` numbers in order, roughly; `told` returns whether to go on. */
  async run(
    from: number,
    total: number,
    work: Partial<Work>,
    told: (outcome: Outcome) => boolean,
  ): Promise<void> {
    const whole: Work = { kind: 'seeds', only: '', blow: '', step: 1, repeat: false, ...work }
    let done = 0
    let going = true
    const order = (): Order | null => {
      const count = Math.min(batchSeeds, total - done)
      if (!going || count <= 0) return null
      done += count
      return { ...whole, from: from + (done - count) * whole.step, count }
    }
    const busy = Array.from({ length: this.count }, () =>
      employ(fork(this.program, { env }), order, (outcome) => (going &&= told(outcome))),
    )
    await Promise.all(busy)
  }
}

function employ(
  child: ChildProcess,
  order: () => Order | null,
  told: (outcome: Outcome) => boolean,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let left = 0
    const more = (): void => {
      const next = order()
      if (next === null) child.kill()
      else {
        left = next.count
        child.send(next)
      }
    }
    child.on('message', (message) => {
      const goOn = told(message as Outcome)
      if (!goOn) child.kill()
      else if (--left === 0) more()
    })
    child.on('error', reject)
    child.on('exit', (code, signal) => {
      // One that somebody else ended has not done its work.
      if (child.killed) resolve()
      else reject(new Error(`a worker ended with ${code ?? signal}`))
    })
    more()
  })
}
