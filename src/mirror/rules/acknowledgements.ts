import { isPending, type Run, type Wait } from './run.ts'
import { rules } from './table.ts'

/**
 * A request that every leg has answered, or left, is acknowledged when the leaving is durable and
 * enough legs are in sync. While `isPrompt` the shell acknowledges without asking the rules.
 */

/** Whether a request that has settled may be acknowledged at once. */
export function isPrompt(run: Run): boolean {
  return run.durable === run.requested && run.inSync.length >= run.minInSync
}

/**
 * Whether a request must wait for legs. It must as well while `parked` others wait, so that it
 * overtakes none.
 */
export function mustPark(run: Run, parked: number): boolean {
  return run.word !== 'running' || parked > 0 || !rules.hasEnough(run)
}

/** Every leg that takes part has the request, or left. */
export function settled(run: Run, id: number): void {
  if (isPending(run)) run.waits.push({ version: run.requested, id, who: 'request' })
  else acknowledge(run, id)
}

/** Lets the requests and procedures go on that waited for the record. */
export function goOn(run: Run, ready: readonly Wait[]): void {
  for (const { id, who } of ready)
    if (who === 'request') acknowledge(run, id)
    else run.out.push({ kind: 'release', id })
}

/** Acknowledges the request if enough legs are in sync; otherwise it waits for more. */
function acknowledge(run: Run, id: number): void {
  if (rules.hasEnough(run)) run.out.push({ kind: 'release', id })
  else {
    run.short.push(id)
    run.out.push({ kind: 'short', id })
  }
}

/** A leg counts once it is durable that it is in sync. */
export function hasEnough(run: Run): boolean {
  return run.readable.length >= run.minInSync
}

/** Goes on with the requests that wait for more legs, if there are enough now. */
export function serveShort(run: Run): void {
  if (run.short.length === 0 || !rules.hasEnough(run)) return
  const { short } = run
  run.short = []
  for (const id of short) rules.settled(run, id)
}
