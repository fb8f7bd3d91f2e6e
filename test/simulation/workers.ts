import { fork, type ChildProcess } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { Outcome } from './run.ts'

/** What a worker is asked for. */
export interface Order {
  readonly from: number
  readonly count: number
  readonly repeat: boolean
}

/** Seeds in one order: few enough to share the work evenly, and to stop soon. */
const batchSeeds = 10
const workersMax = 4

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

  /** Runs seeds in order, roughly; `told` returns whether to go on. */
  async run(
    from: number,
    seeds: number,
    repeat: boolean,
    told: (outcome: Outcome) => boolean,
  ): Promise<void> {
    let next = from
    let going = true
    const order = (): Order | null => {
      const count = Math.min(batchSeeds, from + seeds - next)
      if (!going || count <= 0) return null
      next += count
      return { from: next - count, count, repeat }
    }
    const busy = Array.from({ length: this.count }, () =>
      work(fork(this.program), order, (outcome) => (going &&= told(outcome))),
    )
    await Promise.all(busy)
  }
}

function work(
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
      if (code === null && signal === 'SIGTERM') resolve()
      else reject(new Error(`a worker ended with ${code ?? signal}`))
    })
    more()
  })
}
