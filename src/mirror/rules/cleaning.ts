import { writeMaps } from './maps.ts'
import type { Run, RunLeg } from './run.ts'
import { rules } from './table.ts'

/**
 * Extents leave the log in this order: every leg that takes writes flushes the last one, and is
 * marked → what an absent leg had not flushed is in its map → the maps are on disk → so is who left
 * → the log forgets.
 */

/** Takes out what was last written to at `moment` or before. */
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

/** A leg has flushed, or left. */
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

/** The maps say what is in the log of absent legs. */
export function cleanedMaps(run: Run): void {
  const { cleaning } = run
  if (cleaning?.phase !== 'maps') return
  cleaning.phase = 'durable'
  // Until it is durable who left, only the log says where the legs differ.
  cleaning.version = run.requested
}

export function settleCleaning(run: Run): void {
  const { cleaning } = run
  if (cleaning?.phase !== 'durable' || cleaning.version > run.durable) return
  run.cleaning = null
  run.out.push({ kind: 'cleaned', moment: cleaning.moment })
}
