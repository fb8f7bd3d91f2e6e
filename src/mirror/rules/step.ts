import { clean, settleCleaning } from './cleaning.ts'
import { device, end, type Verdict } from './departures.ts'
import type { Event } from './effects.ts'
import { mapsDone, settleMaps, writeMaps } from './maps.ts'
import { settleStart, start } from './opening.ts'
import { begin, copied, stampQuiet, stamped } from './returning.ts'
import { request, saved } from './rounds.ts'
import { isOver, regroup, type Run, type RunLeg } from './run.ts'
import { rules } from './table.ts'

/**
 * One step of the mirror's control plane: changes `run` by what has happened, and adds to `run.out`
 * what is to be done. No clock, no chance, no wait, no device. What happens to a run that has ended
 * is dropped here, and nowhere else.
 */
export function step<L extends RunLeg>(run: Run<L>, event: Event<L>): Verdict {
  if (run.word === 'ended') return 'without-it'
  const verdict = 'leg' in event ? takeOfLeg(run, event) : take(run, event)
  if (!isOver(run)) follow(run)
  return verdict
}

/** Does what follows from the state alone. */
function follow(run: Run): void {
  rules.serveShort(run)
  settleMaps(run)
  settleCleaning(run)
  settleStart(run)
  stampQuiet(run)
}

type OfLeg = Extract<Event, { readonly leg: RunLeg }>

function take(run: Run, event: Exclude<Event, OfLeg>): Verdict {
  switch (event.kind) {
    case 'start':
      start(run, event.what)
      break
    case 'turn':
      rules.beginRound(run, event)
      break
    case 'changed':
      request(run, event.what)
      break
    case 'saved':
      saved(run, event.version)
      break
    case 'maps':
      mapsDone(run, event.outcome)
      break
    case 'log':
      writeMaps(run, 'log', 'log')
      break
    case 'write':
      writeMaps(run, event.what, event.id)
      break
    case 'settled':
      rules.settled(run, event.id)
      break
    case 'wait':
      run.waits.push({ version: run.requested, id: event.id, who: 'procedure' })
      break
    case 'clean':
      clean(run, event.moment)
      break
    case 'legs':
      run.legs = event.legs
      run.minInSync = event.minInSync
      regroup(run)
      break
    case 'ended':
      end(run)
      break
  }
  return 'without-it'
}

function takeOfLeg(run: Run, event: OfLeg): Verdict {
  const { leg } = event
  switch (event.kind) {
    case 'failed':
      return rules.failed(run, leg, event.work, event.error)
    case 'flushed':
      return rules.flushed(run, event)
    case 'superblock':
      rules.superblock(run, leg, event.version, event.error)
      break
    case 'device':
      device(run, leg, event.now)
      break
    case 'silent':
      rules.goAway(run, leg, event.reason)
      break
    case 'return':
      begin(run, leg, event.how)
      break
    case 'stamped':
      stamped(run, leg, event.error)
      break
    case 'copied':
      copied(run, leg, event.what)
      break
    case 'take-out':
      rules.leave(run, leg, { state: event.state, reason: event.reason, cache: 'kept' })
      break
  }
  return 'without-it'
}
