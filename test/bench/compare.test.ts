import { expect } from 'chai'
import {
  compare,
  compareWithin,
  confirm,
  decide,
  formatChanges,
  isDecided,
  isSlower,
  pool,
} from '../../bench/compare/compare.ts'
import { regressionSuite, versionsOf } from '../../bench/compare/regression.ts'
import type { Report } from '../../bench/report/report.ts'
import type { Row } from '../../bench/run/run.ts'
import type { Work } from '../../bench/clients/work.ts'
import { emptyReport, normal, roundOf } from './support.ts'
import { SeededRandom } from '../support/seeded.ts'

const works: Work[] = [4096, 16384, 131072, 1048576].flatMap((blockSize) =>
  ([1, 32] as const).map((depth) => ({ pattern: 'randread', blockSize, depth })),
)

/** What a machine does to the cost of an operation, as a logarithm. */
interface Noise {
  /** Of a round as a whole, and of each row in it: standard deviations. */
  readonly round: number
  readonly row: number
  /** One row in ten is dearer by a share with this mean: something else had the processor. */
  readonly tail: number
  /** How much dearer a run's last round is than its first. */
  readonly drift: number
  /** Of a run as a whole. */
  readonly run: number
}

const busy: Noise = { round: 0.03, row: 0.04, tail: 0.15, drift: 0.03, run: 0.015 }

/** A report of a program that costs `slowdown` times what it should. */
function report(
  random: SeededRandom,
  slowdown: (work: Work) => number,
  { noise = busy, rounds = 8, servers = ['dst', 'pump'] } = {},
): Report {
  const run = noise.run * normal(random)
  const whole = Array.from(
    { length: rounds },
    (_, at) => run + noise.round * normal(random) + (noise.drift * at) / rounds,
  )
  const cost = (server: string, work: Work, at: number): number => {
    const tail = random.fraction() < 0.1 ? -noise.tail * Math.log(1 - random.fraction()) : 0
    const chance = Math.exp(noise.row * normal(random) + tail)
    return (server === 'dst' ? 1.5 * slowdown(work) * Math.exp(whole[at]!) : 1) * chance
  }
  const rows: Row[] = works.flatMap((work) =>
    servers.map((server) => ({
      suite: regressionSuite,
      setting: 'leaf, memory',
      server,
      work,
      rounds: whole.map((_, at) => roundOf(at, cost(server, work, at))),
    })),
  )
  return { ...emptyReport, rows }
}

const same = (): number => 1
const slower = (before: Report, after: Report): string[] =>
  compare(before, after)
    .filter((change) => change.slower)
    .map(({ what }) => what)

describe('comparing two reports', () => {
  it('finds a slowdown of 15 % that is everywhere, on a busy machine', async () => {
    const random = new SeededRandom(1)
    let found = 0
    for (let n = 0; n < 200; n++) {
      const slow = (): Report => report(random, () => 1.15)
      const changes = await decide(report(random, same), slow(), () => Promise.resolve(slow()))
      if (isSlower(changes)) found++
    }
    expect(found).to.be.at.least(185)
  })

  it('does not cry wolf over an unchanged program, with tails and drift', async () => {
    const random = new SeededRandom(3)
    let cried = 0
    for (let n = 0; n < 1000; n++) {
      const run = (): Report => report(random, same)
      if (isSlower(await decide(run(), run(), () => Promise.resolve(run())))) cried++
    }
    expect(cried).to.be.at.most(2)
  })

  it('finds a slowdown of one kind of work', () => {
    const random = new SeededRandom(2)
    const planted = (work: Work): number => (work.blockSize === 131072 ? 1.4 : 1)
    const options = { rounds: 16, noise: { ...busy, row: 0.03, tail: 0.1 } }
    const found = slower(report(random, same, options), report(random, planted, options))
    expect(found).to.include.members([
      'leaf, memory: randread 128K ×1',
      'leaf, memory: randread 128K ×32',
    ])
    expect(found).not.to.include('leaf, memory: randread 4K ×1')
  })

  it('is not misled by a round that went wild', () => {
    const random = new SeededRandom(9)
    const quiet = { noise: { round: 0.01, row: 0.02, tail: 0, drift: 0, run: 0 } }
    const before = report(random, same, quiet)
    const wild = {
      ...before,
      rows: before.rows.map((row, at) => (at % 2 === 0 ? tenfold(row) : row)),
    }
    expect(slower(before, wild)).to.deep.equal([])
    expect(
      slower(
        wild,
        report(random, () => 1.15, quiet),
      ),
    ).to.include('all rows')
  })

  it('calls what became faster not slower, and says so', () => {
    const random = new SeededRandom(4)
    const changes = compare(
      report(random, same),
      report(random, () => 0.7),
    )
    expect(changes.every((change) => !change.slower)).to.equal(true)
    expect(formatChanges(changes, 'before')).to.match(/−(2\d|3\d)\.\d % {2}p (1\.0|0\.9).* {2}all/)
  })

  it('says no to what was not there when it was measured again', () => {
    const random = new SeededRandom(6)
    const before = report(random, same)
    const changed = compare(
      before,
      report(random, () => 1.3),
    )
    expect(changed.some((change) => change.slower)).to.equal(true)
    const again = compare(before, report(random, same))
    expect(confirm(changed, again).some((change) => change.slower)).to.equal(false)
    expect(confirm(changed, changed)).to.deep.equal(changed)
    const pooled = pool(before, before)
    expect(pooled.rows[0]!.rounds.map(({ round }) => round)).to.deep.equal(
      Array.from({ length: 16 }, (_, at) => at),
    )
  })

  it('compares with another version that took turns, round by round', () => {
    const random = new SeededRandom(7)
    const servers = ['dst', 'other', 'pump']
    // The other version costs 1 where ours costs 1.5: what it is compared with is not the pump.
    const found = compareWithin(report(random, same, { servers }))
    expect(found[0]).to.include({ what: 'all rows', slower: true })
    expect(compareWithin(report(random, () => 1 / 1.5, { servers }))[0]!.slower).to.equal(false)
  })

  it('starts now the one version first, now the other', () => {
    const own = { slowdown: 0 }
    const other = { name: 'other', root: '../other' }
    const against = other.root
    expect(versionsOf({ against }, 0)).to.deep.equal([own, other])
    expect(versionsOf({ against }, 1)).to.deep.equal([other, own])
    expect(versionsOf({ against: null, slowdown: 1 }, 1)).to.deep.equal([{ slowdown: 1 }])
  })

  it('pairs rounds by their number, also where one is missing', () => {
    const random = new SeededRandom(8)
    const noise = { round: 1, row: 0, tail: 0, drift: 0, run: 0 }
    const whole = report(random, same, { noise, servers: ['dst', 'other'] })
    // Ours and the other's differ by what is added to our rounds alone; take that away.
    const equal = whole.rows.map((row) => ({ ...row, rounds: whole.rows[0]!.rounds }))
    const holes = equal.map((row, at) =>
      at % 2 === 0 ? row : { ...row, rounds: row.rounds.slice(3) },
    )
    const [all] = compareWithin({ ...whole, rows: holes })
    expect(all!.ratio).to.be.closeTo(1, 1e-9)
  })

  it('says when there were too few rounds to tell', () => {
    const random = new SeededRandom(10)
    const few = (): Report => report(random, same, { rounds: 3 })
    const changes = compare(report(random, same), few())
    expect(isDecided(changes)).to.equal(false)
    expect(formatChanges(changes, 'before')).to.contain('nothing can be said')
    expect(isDecided(compare(report(random, same), report(random, same)))).to.equal(true)
  })

  it('has nothing to say about reports without common rows', () => {
    expect(formatChanges(compare(emptyReport, emptyReport), 'before')).to.contain('no common rows')
  })
})

/** The same row with one round ten times as dear. */
function tenfold(row: Row): Row {
  const rounds = row.rounds.map((round, at) =>
    at === 2 ? { ...round, cpu: 10 * round.cpu } : round,
  )
  return { ...row, rounds }
}
