import { writeMaps } from './maps.ts'
import { request } from './rounds.ts'
import type { MapWork, Run, RunLeg } from './run.ts'
import { rules } from './table.ts'

/**
 * A run begins in this order: what each leg lacks is in the maps → every leg in sync has the log of
 * before → and has flushed → who is in sync is durable → requests are taken.
 */

/** `members`: the legs in sync are others than the record on disk says. */
export function start(run: Run, what: 'record' | 'members'): void {
  run.opening = { phase: 'maps', what, version: 0, waits: [] }
  writeMaps(run, 'lacking', 'start')
}

/** Maps were written. */
export function startedMaps(run: Run, what: MapWork['what']): void {
  const { opening } = run
  if (opening === null) return
  if (what === 'lacking') writeMaps(run, 'log', 'start')
  else {
    opening.phase = 'flush'
    opening.waits = run.writers
    for (const leg of opening.waits) run.out.push({ kind: 'flush', leg, why: 'start' })
    rules.flushedForStart(run, null)
  }
}

/** A leg has flushed, or left. */
export function flushedForStart(run: Run, leg: RunLeg | null): void {
  const { opening } = run
  if (opening?.phase !== 'flush') return
  opening.waits = opening.waits.filter((one) => one !== leg)
  if (opening.waits.length > 0) return
  opening.phase = 'durable'
  request(run, opening.what)
  opening.version = run.requested
}

export function settleStart(run: Run): void {
  const { opening } = run
  if (opening?.phase !== 'durable' || opening.version > run.durable) return
  run.opening = null
  run.word = 'running'
  run.out.push({ kind: 'started' })
}
