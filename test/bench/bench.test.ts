import { expect } from 'chai'
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fioSpeaksNbd, readReport } from '../../bench/clients/fio.ts'
import type { Report } from '../../bench/report/report.ts'

const main = join(import.meta.dirname, '../../bench/main.js')

function run(parameters: readonly string[]): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...parameters], (error, stdout, stderr) => {
      const code = typeof error?.code === 'number' ? error.code : 0
      resolve({ code, output: stdout + stderr })
    })
  })
}

describe('the benchmark', () => {
  let folder: string
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'dst-test-'))))
  afterEach(() => {
    rmSync(folder, { recursive: true })
  })

  it('measures a server, prints a table and writes a report', async function () {
    if (!(await fioSpeaksNbd())) {
      console.log('      skipped: fio with its NBD engine is not installed')
      this.skip()
    }
    const json = join(folder, 'report.json')
    const tiny = ['--quick', '--rounds', '2', '--seconds', '0.05', '--size', '4M', '--warm-up', '0']
    const { code, output } = await run([
      ...tiny,
      ...['--suite', 'peers', '--server', 'dst', '--server', 'pump', '--only', 'randread 4K ×32'],
      ...['--json', json],
    ])
    expect(output).to.contain('randread 4K ×32')
    expect(code).to.equal(0)
    const report = JSON.parse(readFileSync(json, 'utf8')) as Report
    expect(report.machine.node).to.equal(process.version)
    expect(report.rows.map(({ server }) => server)).to.have.members(['dst', 'pump'])
    const rounds = report.rows.flatMap((row) => row.rounds)
    expect(rounds).to.have.length(4)
    for (const round of rounds) {
      expect(round.operations).to.be.above(0)
      expect(round.bytes).to.equal(round.operations * 4096)
      expect(round.seconds).to.be.within(0.01, 5)
    }
  })

  it('says what is wrong with its options, and how they are meant', async () => {
    const { code, output } = await run(['--rounds', 'many'])
    expect(code).to.equal(2)
    expect(output).to.contain('--rounds needs a whole number above 0')
    expect((await run(['--help'])).output).to.contain('npm run bench')
  })

  it("adds up both directions of fio's report", () => {
    const side = (ios: number, p50: number): object => ({
      total_ios: ios,
      io_bytes: ios * 4096,
      runtime: 500,
      clat_ns: { percentile: { '50.000000': p50, '99.000000': 2, '99.900000': 3 } },
    })
    const job = { error: 0, read: side(70, 10), write: side(30, 20) }
    const text = (jobs: object[]): string => `fio: connected\n${JSON.stringify({ jobs }, null, 2)}`
    const seen = readReport(text([job, { ...job, error: 5 }]), 2)
    expect(seen[0]).to.deep.equal({
      operations: 100,
      bytes: 409_600,
      seconds: 0.5,
      p50: 10,
      p99: 2,
      p999: 3,
    })
    expect(seen[1]).to.be.an('error').with.property('message', 'fio failed with error 5')
    expect(() => readReport(text([job]), 2)).to.throw('failed')
  })

  it('does not measure against a report of another version, or something else', async () => {
    const old = join(folder, 'old.json')
    writeFileSync(old, JSON.stringify({ version: 1, rows: [] }))
    const { code, output } = await run(['--quick', '--compare', old])
    expect(output).to.contain('was written by another version of the benchmark')
    expect(code).to.equal(2)
    expect((await run(['--suite', 'peer'])).output).to.match(/suite.*"peer".*Choices: "peers"/s)
  })
})
