import { writeMaps } from './maps.ts'
import { request } from './rounds.ts'
import type { MapWork, Run, RunLeg } from './run.ts'
import { rules } from './table.ts'

/**
 * A run begins in this order: the maps say what each leg lacks → every leg in sync has the log of
 * the run before → and has flushed → it is durable which legs are in sync → requests are taken.
 */

/** Starts the run. `members`: other legs are in sync than the record on disk says. */
export function start(run: Run, what: 'record' | 'members'): void {
  run.opening = { phase: 'maps', what, version: 0, waits: [] }
  writeMaps(run, 'lacking', 'start')
}

/** Goes on with the start after maps were written. */
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

/** A leg has flushed, or left; null when none has yet. */
export function flushedForStart(run: Run, leg: RunLeg | null): void {
  const { opening } = run
  if (opening?.phase !== 'flush') return
  opening.waits = opening.waits.filter((one) => one !== leg)
  if (opening.waits.length > 0) return
  opening.phase = 'durable'
  request(run, opening.what)
  opening.version = run.requested
}

/** The run is served once it is durable which legs are in sync. */
export function settleStart(run: Run): void {
  const { opening } = run
  if (opening?.phase !== 'durable' || opening.version > run.durable) return
  run.opening = null
  run.word = 'running'
  run.out.push({ kind: 'started' })
}
