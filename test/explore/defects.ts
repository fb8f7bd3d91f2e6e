import * as cleaning from '../../src/mirror/rules/cleaning.ts'
import * as returning from '../../src/mirror/rules/returning.ts'
import * as rounds from '../../src/mirror/rules/rounds.ts'
import { isInSync, type Run, type RunLeg } from '../../src/mirror/rules/run.ts'
import { rules } from '../../src/mirror/rules/table.ts'
import { claiming } from './claims.ts'
import type { Configuration } from './config.ts'

/** A rule that is wrong on purpose, and where the search has to see that. */
export interface Defect {
  readonly name: string
  readonly breaks: string
  readonly replace: Partial<typeof rules>
  /** The same of how a head comes after another. */
  readonly claiming?: Partial<typeof claiming>
  readonly configuration: Partial<Configuration>
  /** Whether it is found within a second or so. */
  readonly quick?: true
  /** Where the search takes long: what it has found. */
  readonly script?: string
}

const onlyInSync = (run: Run, leg: RunLeg): boolean =>
  isInSync(leg) && !run.inSync.some((one) => one !== leg)

const twoHeads = { heads: 2, writes: 1, flushes: 0, width: 1, cleanings: 0 } as const

export const defects: readonly Defect[] = [
  {
    name: 'ack-before-degrade',
    breaks: '1: a write is acknowledged before the leaving of a leg is durable',
    replace: { settled: (run, id) => run.out.push({ kind: 'release', id }) },
    configuration: {
      writes: 1,
      flushes: 0,
      width: 1,
      cleanings: 0,
      faults: 3,
      kinds: new Set(['away', 'crash']),
    },
  },
  {
    name: 'log-failure-ignored',
    breaks: '3: data are written although a leg could not take the log',
    replace: { countsNow: () => true },
    configuration: {
      writes: 1,
      flushes: 0,
      width: 1,
      cleanings: 0,
      faults: 3,
      kinds: new Set(['error', 'crash', 'away']),
    },
  },
  {
    name: 'no-crash-recovery',
    breaks: '3: after a crash the legs are taken for equal',
    replace: { chooseSource: ([source]) => ({ source: source!, differ: [], lost: false }) },
    configuration: { writes: 1, flushes: 0, faults: 1, kinds: new Set(['crash']) },
    quick: true,
  },
  {
    name: 'intent-cleared-unflushed',
    breaks: '3: an extent leaves the intent log before the legs flushed it',
    replace: {
      flushedForLog: (run) => {
        if (run.cleaning?.phase === 'flush') run.cleaning.waits = []
        cleaning.flushedForLog(run, null)
      },
    },
    configuration: { writes: 1, flushes: 0, faults: 1, kinds: new Set(['blackout']) },
    quick: true,
  },
  {
    name: 'cache-loss-ignored',
    breaks: '6: a target that restarted is taken to have what it had not flushed',
    replace: {
      restarted: (run, leg, { bootId }) => {
        leg.bootId = bootId
        leg.member!.bootId = bootId
        run.requested++
      },
    },
    configuration: { writes: 1, flushes: 0, faults: 1, kinds: new Set(['restart']) },
    quick: true,
  },
  {
    name: 'last-leg-goes-on',
    breaks: '5: the last leg lost its cache, and what is under way is acknowledged all the same',
    replace: {
      restarted: (run, leg, now) => {
        if (run.inSync.length > 1)
          rules.leave(run, leg, { state: 'missing', reason: '', cache: 'lost' })
        else {
          leg.bootId = now.bootId
          leg.member!.bootId = now.bootId
          run.requested++
        }
      },
    },
    configuration: { writes: 1, flushes: 0, faults: 2, kinds: new Set(['restart', 'away']) },
    quick: true,
  },
  {
    name: 'joined-unmapped',
    breaks: '2: a leg takes part again before what it lacks is on disk',
    replace: {
      mapsOfLeg: (run, leg, what) => {
        if (what !== 'lacking') returning.mapsOfLeg(run, leg, what)
      },
      isQuiet: (run) => {
        for (const { coming } of run.legs) if (coming?.phase === 'maps') coming.phase = 'quiet'
        return run.requested === run.durable
      },
    },
    configuration: { writes: 1, flushes: 0, faults: 2, kinds: new Set(['away', 'crash']) },
  },
  {
    name: 'told-before-durable',
    breaks: '1: a leg is told a generation that the head could not save',
    replace: { isQuiet: () => true },
    configuration: {
      writes: 1,
      flushes: 0,
      width: 1,
      cleanings: 0,
      faults: 3,
      kinds: new Set(['away', 'crash']),
    },
  },
  {
    name: 'about-to-be-is-enough',
    breaks: '2: others may leave to a leg that is about to be in sync',
    replace: { isLast: onlyInSync },
    configuration: {
      writes: 1,
      flushes: 0,
      width: 1,
      cleanings: 0,
      faults: 3,
      kinds: new Set(['away', 'crash']),
    },
  },
  {
    name: 'min-in-sync-ignored',
    breaks: '1: fewer legs than `minInSync` are enough to acknowledge',
    replace: { hasEnough: () => true },
    configuration: { writes: 1, flushes: 0, minInSync: 2, faults: 1, kinds: new Set(['away']) },
  },
  {
    name: 'unflushed-forgotten',
    breaks: '6: what an absent leg had not flushed is forgotten though it restarted',
    replace: {
      leave: (run, leg, leaving) => {
        leave(run, leg, leaving)
        leg.unflushed = null
      },
    },
    configuration: { writes: 1, flushes: 0, faults: 2, kinds: new Set(['away', 'cut']) },
  },
  {
    name: 'claims-ignored',
    breaks: '7: a leg carries out what an older head sends',
    replace: {},
    claiming: { refuses: () => false },
    configuration: { ...twoHeads, faults: 0 },
    quick: true,
  },
  {
    name: 'start-as-seen-before',
    breaks: '4: a head starts from what legs showed before it claimed them',
    replace: {},
    claiming: { isAsSeen: () => true },
    configuration: { ...twoHeads, faults: 1, kinds: new Set(['away']) },
  },
  {
    name: 'own-record-vouches',
    breaks: '5: a head believes its own record though another has had the legs',
    replace: {},
    claiming: { vouches: () => true },
    configuration: { ...twoHeads, faults: 2, kinds: new Set(['crash', 'away']) },
  },
  {
    name: 'own-record-knows-first',
    breaks: '5: the own record and a leg that joins say so before any other leg does',
    replace: {
      beginRound: (run, turn) => {
        rounds.beginRound(run, turn)
        if (run.round !== null) run.round.joining = []
      },
      handedOver: (run, leg) => {
        returning.handedOver(run, leg)
        if (leg.stage === 'saving') Object.assign(leg.member!, { state: 'in-sync', left: null })
      },
    },
    configuration: { ...twoHeads, faults: 2, kinds: new Set(['restart', 'away']) },
    script: `
      3  ! for the head a goes away
      1  a is there again for the head
      0  a returns, partial copy
      1  saving the record is done
      1  the superblock on b is done
      1  saving the record is done
      1  the superblock on b is done
      1  the stamp on a is done
      2  saving the record is done
      2  the superblock on b is done
      1  the flush (copied) on a is done
      1  the all on a is done
      1  saving the record is done
      1  the superblock on a is done
      0  the other head looks at a and b
      3,0  a client writes 1 to extent 0
      0  the log on a is done
      7,0,0,0  ! b restarts
      0  the head looks at a and b
      1  the claim on a is done
      2,0  the claim on b is done
      1  the lacks on a is done
      1  the log on a is done
      1  the flush (start) on a is done
      1  saving the record is done
      1  the superblock on a is done
      1  saving the record is done
      1  the superblock on a is done
      0  what waited is carried out
      2  the log on a is done
      2  the log on a is done
      2  write 1 on a is done
      1,0  the other head looks at b
      0  the log on b is done
      0  the flush (start) on b is done
      0  saving the record is done
      0  the superblock on b is done
      0  saving the record is done
      0  the superblock on b is done
    `,
  },
]

const { leave } = rules

/** Carries out `action` with the defect in the place of the rule. */
export function withDefect<T>(defect: Defect, action: () => T): T {
  const whole = { ...rules }
  const wholeClaiming = { ...claiming }
  Object.assign(rules, defect.replace)
  Object.assign(claiming, defect.claiming)
  try {
    return action()
  } finally {
    Object.assign(rules, whole)
    Object.assign(claiming, wholeClaiming)
  }
}
