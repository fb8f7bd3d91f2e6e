import { writeMaps } from './maps.ts'
import type { Run, RunLeg } from './run.ts'
import { rules } from './table.ts'

/**
 * Extents leave the log in this order: every leg that takes writes flushes the last one, and is
 * marked → the map of an absent leg gets what the leg had not flushed → the maps are on disk → it
 * is durable which legs left → the log forgets the extents.
 */

/** Starts to take out of the log what was last written to at `moment` or before. */
export function clean(run: Run, moment: number): void {
  // At a start it is not durable yet which leg is the source: the next may choose another.
  if (run.cleaning !== null || run.word !== 'running') return
  const legs = run.writers.filter(
    ({ flushedMoment, markedMoment = Infinity }) => Math.min(flushedMoment, markedMoment) < moment,
  )
  run.cleaning = { phase: 'flush', moment, version: 0, waits: legs }
  for (const leg of legs) run.out.push({ kind: 'flush', leg, why: 'clean' })
  rules.flushedForLog(run, null)
}

/** A leg has flushed, or left; null when none has yet. */
export function flushedForLog(run: Run, leg: RunLeg | null): void {
  const { cleaning } = run
  if (cleaning?.phase !== 'flush') return
  cleaning.waits = cleaning.waits.filter((one) => one !== leg)
  if (cleaning.waits.length > 0) return
  cleaning.phase = 'maps'
  for (const { dirty, unflushed } of run.legs)
    if (dirty !== null && unflushed !== null)
      run.log.forEachIdle(cleaning.moment, (extent) => {
        if (unflushed.extents.has(extent)) dirty.missFrom(unflushed, extent)
      })
  writeMaps(run, 'lacking', 'clean')
}

/** The last leg could not flush: nothing leaves the log. */
export function stopCleaning(run: Run): void {
  run.cleaning = null
  run.out.push({ kind: 'cleaned', moment: 0 })
}

/** The maps that say what absent legs had not flushed are on disk. */
export function cleanedMaps(run: Run): void {
  const { cleaning } = run
  if (cleaning?.phase !== 'maps') return
  cleaning.phase = 'durable'
  // Until it is durable which legs left, only the log says where legs differ.
  cleaning.version = run.requested
}

/** The log forgets the extents once it is durable which legs left. */
export function settleCleaning(run: Run): void {
  const { cleaning } = run
  if (cleaning?.phase !== 'durable' || cleaning.version > run.durable) return
  run.cleaning = null
  run.out.push({ kind: 'cleaned', moment: cleaning.moment })
}
