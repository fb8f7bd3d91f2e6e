import { expect } from 'chai'
import { linkSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { compare, isSlower } from '../../bench/compare/compare.ts'
import { caveats, readEarlier } from '../../bench/compare/earlier.ts'
import { readOccasions, writeOccasions } from '../../bench/report/goals.ts'
import { readOptions } from '../../bench/options.ts'
import { notPlaced, regressionKeys, regressionSuite } from '../../bench/compare/regression.ts'
import type { Report } from '../../bench/report/report.ts'
import type { Round, Work } from '../../bench/clients/work.ts'
import { emptyReport, roundOf } from './support.ts'

const work: Work = { pattern: 'randread', blockSize: 4096, depth: 32 }
const setting = 'leaf, memory'

describe('before anything is measured', () => {
  let folder: string
  let path: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dst-test-'))
    path = join(folder, 'old.json')
  })
  afterEach(() => {
    rmSync(folder, { recursive: true })
  })

  /** A report with four rounds of ours and of the pump, ours with something changed. */
  function reportWith(change: object = {}, rounds = 4): Report {
    const all = Array.from({ length: rounds }, (_, at) => roundOf(at, 2))
    const row = (server: string, rounds: Round[]) => ({
      ...{ suite: regressionSuite, setting, server, work, rounds },
    })
    const ours = all.map((round, at) => (at === 1 ? { ...round, ...change } : round))
    return { ...emptyReport, rows: [row('dst', ours), row('pump', all)] }
  }

  function refusal(content: unknown): string {
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content))
    try {
      readEarlier(path)
      return ''
    } catch (error) {
      return (error as Error).message
    }
  }

  it('an earlier report is read', () => {
    expect(regressionKeys()).to.include('leaf, memory: randread 4K ×32')
    expect(refusal(reportWith())).to.equal('')
    expect(readEarlier(path)).to.deep.equal(reportWith())
  })

  it('what is not the same as in an earlier report is said', () => {
    const before = reportWith()
    expect(caveats(before, before)).to.deep.equal([])
    const machine = { ...before.machine, cores: 64, node: 'v99' }
    const rows = before.rows.map((row) => ({ ...row, setting: 'leaf, elsewhere' }))
    expect(caveats(before, { ...before, machine, rows })).to.deep.equal([
      'cores: 2 then, 64 now',
      'node:  then, v99 now',
      'only then: leaf, memory: randread 4K ×32',
      'only now: leaf, elsewhere: randread 4K ×32',
    ])
    expect(caveats({ ...before, omitted: [notPlaced] }, before)).to.deep.equal([
      'on one processor: no then, yes now',
    ])
  })

  it('one with costs that are no numbers is refused, and says where they are', () => {
    const wrong: readonly object[] = [
      { cpu: NaN },
      { cpu: null },
      { cpu: undefined },
      { cpu: '12' },
      { cpu: 0 },
      { cpu: -1 },
      { operations: null },
      { operations: 0 },
      { round: null },
    ]
    for (const change of wrong)
      expect(refusal(reportWith(change)), JSON.stringify(change)).to.match(
        /cannot be compared with: \/rows\/0\/rounds\/1/,
      )
    const huge = JSON.stringify(reportWith({ cpu: 12345 })).replace('12345', '1e999')
    expect(refusal(huge)).to.match(/cannot be compared with: \/rows\/0\/rounds\/1\/cpu/)
  })

  it('one that nothing can be told by is refused', () => {
    expect(refusal(emptyReport)).to.match(/has no rows to compare with/)
    expect(refusal(reportWith({}, 3))).to.match(/\/rows\/0\/rounds must NOT have fewer than 4/)
    const alone = { ...emptyReport, rows: reportWith().rows.slice(0, 1) }
    expect(refusal(alone)).to.match(/has no rows to compare with/)
    const other = reportWith().rows.map((row) => ({ ...row, setting: 'another' }))
    expect(refusal({ ...emptyReport, rows: other })).to.match(/has no rows to compare with/)
    expect(refusal({ ...emptyReport, rows: 5 })).to.match(/\/rows must be array/)
    const { machine } = emptyReport
    for (const commit of [undefined, null, 5, { toString: 1 }])
      expect(refusal({ ...reportWith(), machine: { ...machine, commit } })).to.match(/\/machine/)
    for (const strange of ['null', '[]', '{}', '5'])
      expect(refusal(strange)).to.match(/another version/)
    expect(refusal('nothing like JSON')).to.match(/is no report/)
  })

  it('costs that are no numbers are never "not slower"', () => {
    expect(() => compare(reportWith(), reportWith({ cpu: NaN }))).to.throw(/a cost is no number/)
    expect(() => compare(reportWith({ cpu: 0 }), reportWith())).to.throw(/a cost is no number/)
    expect(compare(reportWith(), reportWith())).to.have.length(2)
    // Where no round differs from another, a chance is a number all the same.
    const dear = reportWith().rows.map((row) => ({
      ...row,
      rounds: row.rounds.map((round) => ({
        ...round,
        cpu: round.cpu * (row.server === 'dst' ? 2 : 1),
      })),
    }))
    expect(isSlower(compare(reportWith(), { ...emptyReport, rows: dear }))).to.equal(true)
  })

  it('a suite that is named twice is measured once', () => {
    const options = readOptions(['--suite', 'regression', '--suite', 'regression'])
    expect(options).to.deep.include({ suites: ['regression'] })
  })

  it('options that do nothing together are refused', () => {
    const wrong: readonly (readonly string[])[] = [
      ['--goals', '--compare', 'x'],
      ['--goals', '--against', '.'],
      ['--goals', '--suite', 'peers'],
      ['--goals', '--quick'],
      ['--self-test', '--compare', 'x'],
      ['--self-test', '--rounds', '3'],
      ['--suite', 'peers', '--compare', 'x'],
      ['--suite', 'allocation', '--against', '.'],
      ['--against', folder],
      ['--json', join(folder, 'absent', 'x.json')],
      ['--json', folder],
      ['--json', ''],
      ['--json', join(folder, 'new/')],
      ['--json', 'x', '--json', 'y'],
      ['--compare', 'x', '--compare', 'y'],
      ['stray'],
      ['--absent'],
      ['--rounds', '1.5'],
      ['--rounds', '1', '--rounds', '2'],
      ['--rounds', 'Infinity'],
      ['--seconds', '0.001'],
      ['--warm-up', '-1'],
    ]
    for (const words of wrong) expect(() => readOptions(words), words.join(' ')).to.throw(TypeError)
    const right: readonly (readonly string[])[] = [
      ['--goals', '--only', 'randread', '--json', join(folder, 'x.json')],
      ['--suite', 'regression', '--compare', 'x', '--against', '.'],
      ['--quick', '--compare', 'x', '--warm-up', '0'],
      ['--self-test'],
    ]
    for (const words of right) expect(readOptions(words), words.join(' ')).to.be.an('object')
  })

  it('runs of --goals are added to such, and to nothing else', () => {
    expect(readOccasions(path)).to.deep.equal([])
    for (const strange of [emptyReport, [{ machine: {}, figures: [null] }]]) {
      writeFileSync(path, JSON.stringify(strange))
      expect(() => readOccasions(path)).to.throw(/holds no runs of --goals/)
    }
  })

  it('runs of --goals that are there are kept until all of the next ones are written', () => {
    const occasion = { ...emptyReport, figures: [] }
    writeOccasions(path, [occasion])
    const kept = join(folder, 'kept')
    linkSync(path, kept)
    const before = readFileSync(kept, 'utf8')
    writeOccasions(path, [occasion, occasion])
    expect(readOccasions(path)).to.have.length(2)
    expect(readFileSync(kept, 'utf8')).to.equal(before)
    // As a disk that is full would have it.
    mkdirSync(`${path}.new`)
    expect(() => writeOccasions(path, [])).to.throw()
    expect(readOccasions(path)).to.have.length(2)
  })
})
