import { stopCleaning } from './cleaning.ts'
import { end, type Verdict } from './departures.ts'
import type { Event, FlushReason, LegError } from './effects.ts'
import { flushedCopies } from './returning.ts'
import type { Run } from './run.ts'
import { rules } from './table.ts'

/** A flush of a leg ended, whatever it was for. */
export function flushed(run: Run, event: Extract<Event, { kind: 'flushed' }>): Verdict {
  const { leg, why, moment, error } = event
  if (error !== null) {
    const verdict = rules.failed(run, leg, 'flush', error)
    // The last leg stays.
    if (verdict === 'tell-client' && why !== 'client') rules.notFlushed(run, why, error)
    return verdict
  }
  leg.flushedMoment = Math.max(leg.flushedMoment, moment)
  // A leg that left before this was heard may lack what was written since the flush began.
  if (run.writers.includes(leg)) leg.unflushed = null
  if (why === 'copied') flushedCopies(run, leg)
  else if (why === 'clean') rules.flushedForLog(run, leg)
  else if (why === 'start') rules.flushedForStart(run, leg)
  return 'without-it'
}

/** The last leg cannot flush, and had nothing to lose: nothing leaves the log, no run starts. */
export function notFlushed(run: Run, why: FlushReason, { message }: LegError): void {
  if (why === 'clean') stopCleaning(run)
  else if (why === 'start') {
    end(run)
    run.out.push({ kind: 'suspend', reason: message })
  }
}
