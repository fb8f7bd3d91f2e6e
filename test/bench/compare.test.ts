import { expect } from 'chai'
import { compare, formatChanges } from '../../bench/compare.ts'
import type { Report } from '../../bench/report.ts'
import type { Row } from '../../bench/run.ts'
import type { Work } from '../../bench/work.ts'
import { SeededRandom } from '../../src/base/random.ts'

const works: Work[] = [4096, 16384, 131072, 1048576].flatMap((blockSize) =>
  ([1, 32] as const).map((depth) => ({ pattern: 'randread', blockSize, depth })),
)

/** A report of a program that costs `slowdown` times what it should, on a noisy machine. */
function report(random: SeededRandom, slowdown: (work: Work) => number, rounds = 6): Report {
  const rows: Row[] = works.flatMap((work) =>
    ['dst', 'pump'].map((server) => ({
      suite: 'peers',
      setting: 'memory over unix',
      server,
      work,
      rounds: Array.from({ length: rounds }, () => {
        const noise = 0.95 + 0.1 * random.fraction()
        const cpu = 1e9 * noise * (server === 'dst' ? 1.5 * slowdown(work) : 1)
        return {
          operations: 1e6,
          bytes: 1e6 * work.blockSize,
          seconds: 1,
          p50: null,
          p99: null,
          p999: null,
          cpu,
          peakBytes: 0,
        }
      }),
    })),
  )
  const machine = {
    processor: '',
    cores: 2,
    memoryBytes: 0,
    kernel: '',
    node: '',
    commit: '',
    loadBefore: 0,
    programs: {},
  }
  return {
    version: 1,
    started: '',
    seconds: 0,
    machine,
    options: {},
    omitted: [],
    rows,
    idle: [],
    paths: [],
    allocations: [],
  }
}

const slower = (before: Report, after: Report): string[] =>
  compare(before, after)
    .filter((change) => change.slower)
    .map(({ what }) => what)

describe('comparing two reports', () => {
  it('finds a slowdown of 15 % that is everywhere, in six rounds', () => {
    const random = new SeededRandom(1)
    for (let n = 0; n < 50; n++)
      expect(
        slower(
          report(random, () => 1),
          report(random, () => 1.15),
        ),
      ).to.include('all rows')
  })

  it('finds a slowdown of one kind of work, in ten rounds', () => {
    const random = new SeededRandom(2)
    const planted = (work: Work): number => (work.blockSize === 131072 ? 1.2 : 1)
    const found = slower(
      report(random, () => 1, 10),
      report(random, planted, 10),
    )
    expect(found).to.have.members([
      'peers: randread 128K ×1 (memory over unix)',
      'peers: randread 128K ×32 (memory over unix)',
    ])
  })

  it('does not cry wolf over an unchanged program', () => {
    const random = new SeededRandom(3)
    for (let n = 0; n < 200; n++)
      expect(
        slower(
          report(random, () => 1),
          report(random, () => 1),
        ),
      ).to.deep.equal([])
  })

  it('calls what became faster not slower, and says so', () => {
    const random = new SeededRandom(4)
    const changes = compare(
      report(random, () => 1),
      report(random, () => 0.8),
    )
    expect(changes.every((change) => !change.slower)).to.equal(true)
    expect(formatChanges(changes)).to.match(
      /−(19|20|21|22)\.\d % {2}p (1\.0000|0\.99\d\d) {2}all rows/,
    )
  })

  it('has nothing to say about reports without common rows', () => {
    const empty = { ...report(new SeededRandom(5), () => 1), rows: [] }
    expect(formatChanges(compare(empty, empty))).to.contain('No row')
  })
})
