import { isPending, regroup, type MapWork, type Run, type RunLeg } from './run.ts'
import { rules } from './table.ts'

/**
 * Maps are written one after the other, each to every leg that has metadata: the log of recent
 * writes, and what each leg lacks. A leg that cannot take them leaves, and what was to be written
 * counts only when its leaving is durable: until then a restart might begin from that leg.
 */

/** Writes a map when those before it have been written. */
export function writeMaps(run: Run, what: MapWork['what'], then: MapWork['then']): void {
  // One page serves all writes that wait for it.
  if (then === 'log' && run.works.some((one) => one.then === 'log' && one.phase === 'waiting'))
    return
  run.works.push({ what, then, phase: 'waiting', version: 0 })
  if (run.works.length === 1) begin(run)
}

function begin(run: Run): void {
  const work = run.works[0]!
  work.phase = 'pages'
  if (work.what === 'all' && !startHandingOver(run, work.then as RunLeg)) next(run)
  else run.out.push({ kind: 'maps', work })
}

/**
 * From here on the leg gets the maps that the others get. Returns false if it is not being filled.
 */
function startHandingOver(run: Run, leg: RunLeg): boolean {
  if (leg.stage !== 'syncing' || leg.finishing === null) return false
  leg.stage = 'handing-over'
  regroup(run)
  return true
}

/** Every leg has the map that was to be written, or left. */
export function mapsDone(run: Run, outcome: 'whole' | 'not-all'): void {
  const work = run.works[0]
  if (work?.phase !== 'pages') return
  work.phase = 'durable'
  const must = work.what === 'log' || outcome === 'not-all'
  work.version = must ? run.requested : 0
  settleMaps(run)
}

/** Goes on with the maps when what they wait for is durable. */
export function settleMaps(run: Run): void {
  const work = run.works[0]
  if (work?.phase === 'durable' && rules.countsNow(run, work)) next(run)
}

/** Whether the record that the pages depend on is durable. */
export function countsNow(run: Run, work: MapWork): boolean {
  return work.version <= run.durable
}

function next(run: Run): void {
  const { then, what } = run.works.shift()!
  const [waiting] = run.works
  // What was written must count before the next pages are taken, which are others.
  if (what === 'log') run.out.push({ kind: 'logged' })
  if (then === 'clean') rules.cleanedMaps(run)
  else if (then === 'start') rules.startedMaps(run, what)
  else if (typeof then === 'number') run.out.push({ kind: 'release', id: then })
  else if (then !== 'log') rules.mapsOfLeg(run, then, what)
  if (waiting !== undefined && run.works[0] === waiting) begin(run)
}

/** Whether all changes of the record are durable, so that a leg may be told of it. */
export function isQuiet(run: Run): boolean {
  return !isPending(run)
}
