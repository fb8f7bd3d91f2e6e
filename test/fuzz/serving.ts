import type { Part } from './mutate.ts'
import type { Change, Served } from './served.ts'
import { must } from './trial.ts'
import type { Peer } from './world.ts'

/** What was heard of a server: all of its answers, or what came before the client left. */
export type Heard = 'all' | 'a part'

/** What a server has to do when a client says what it says. */
export interface Expected {
  /** Whether the server closes the connection by itself. */
  readonly closes: boolean
  /** Whether it may. */
  readonly mayClose?: boolean
  /** The changes that have to reach the device. */
  readonly changes: readonly Change[]
  /** What the device holds after all of them. */
  readonly content: Buffer
  /** Checks the answers, to the last byte. */
  check(answers: Buffer, heard: Heard): void
}

/** Sends the parts in their order, some of them later than others. */
async function say({ world, trial: { dice } }: Served, peer: Peer, parts: readonly Part[]) {
  const together = dice.chance(0.5)
  if (together) peer.connection.send(parts.map(({ bytes }) => bytes).filter(isThere))
  else
    for (const { bytes } of parts) {
      peer.say(bytes)
      if (dice.chance(0.1)) await world.clock.run(world.clock.time + dice.between(0, 3))
    }
}

function isThere({ length }: Buffer): boolean {
  return length > 0
}

/** Has a hostile client say all of the parts, and holds what comes of it against what has to. */
export async function converse(
  served: Served,
  parts: readonly Part[],
  expected: Expected,
): Promise<void> {
  const { world, trial } = served
  const { dice } = trial
  const peer = await served.connect()
  const slow = dice.chance(0.2)
  if (slow) peer.connection.pause()
  await say(served, peer, parts)
  const leaves = dice.chance(0.15) || expected.mayClose === true
  if (leaves) await world.clock.run(world.clock.time + dice.skewed(0, 5))
  else await world.quiet()
  if (slow && !leaves) {
    peer.connection.resume()
    await world.quiet()
  }
  if (leaves) peer.connection.destroy()
  else checkAll(peer, expected)
  if (!leaves) peer.connection.end()
  await world.quiet()
  // What was said and not read has an end that a reset may take away.
  expected.check(peer.heard(), leaves || expected.closes ? 'a part' : 'all')
  await checkDevice(served, expected, leaves ? 'a part' : 'all')
}

/** Nothing happens any more: all is answered. */
function checkAll(peer: Peer, expected: Expected): void {
  if (expected.closes) {
    must(peer.isClosed, 'the server goes on with a client that it cannot understand')
    return
  }
  must(!peer.isClosed, 'the server closes the connection of a client that did nothing wrong')
  expected.check(peer.heard(), 'all')
}

/** The device is what the changes that were said have made of it, those that came so far. */
async function checkDevice(served: Served, expected: Expected, heard: Heard): Promise<void> {
  const { changes } = served
  for (const [at, change] of changes.entries()) {
    const due = expected.changes[at]
    must(due !== undefined && same(change, due), `change ${at} is not what was asked for`)
  }
  const missing = expected.changes.length - changes.length
  must(missing === 0 || heard === 'a part', `${missing} changes were not carried out`)
  if (missing > 0) return
  must(expected.content.equals(await served.current()), 'the device is not equal to the model')
}

function same(one: Change, other: Change): boolean {
  const alike =
    one.operation === other.operation && one.offset === other.offset && one.length === other.length
  if (!alike || one.payload === null || other.payload === null) return alike
  return one.payload.equals(other.payload)
}
