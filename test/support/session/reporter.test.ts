import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { expect } from 'chai'
import { estimatedSeconds, quickTests, slowSeconds, sourceOf } from './files.ts'

const fixture = 'dist/test/support/session/fixtures/left-open.js'

interface Ended {
  readonly code: number | null
  readonly output: string
  /** The processes that the tests started. */
  readonly pids: readonly number[]
}

/** Runs the fixture to its end, with a signal as soon as it has printed `cue`. */
async function runFixture(
  environment: NodeJS.ProcessEnv,
  signal: { readonly name: NodeJS.Signals; readonly cue: string } | null = null,
): Promise<Ended> {
  const child = spawn(process.execPath, ['node_modules/mocha/bin/mocha.js', fixture], {
    env: { ...process.env, DST_TEST_LINGER_MS: '200', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  let signalled = false
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (text: Buffer) => {
      output += text.toString()
      if (signal === null || signalled || !output.includes(signal.cue)) return
      signalled = true
      child.kill(signal.name)
    })
  // Not its `close`: a process that it left behind would have the pipes.
  const [code] = (await once(child, 'exit')) as [number | null]
  const pids = /pids: (\d+) (\d+)/.exec(output)?.slice(1).map(Number) ?? []
  return { code, output, pids }
}

/** Whether a process runs; one that is over and not yet waited for does not. */
function runs(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

describe('a run of the tests', () => {
  it('that failed ends though something is open, and names it', async () => {
    const { code, output, pids } = await runFixture({ FIXTURE_FAILS: '1' })
    expect(output).to.match(/2 passing[^]*1 failing[^]*as it was told[^]*still alive/)
    expect(output).to.match(/server at .*127\.0\.0\.1.*leaves a server and a process/)
    expect(output).to.match(/process \d+ \(sh -c .*leaves a server and a process/)
    expect(code).to.equal(1)
    expect(pids).to.have.length(2)
    expect(pids.filter(runs)).to.deep.equal([])
  })

  it('that passed fails for what is left open', async () => {
    const { code, output, pids } = await runFixture({})
    expect(output).to.match(/3 passing[^]*still alive/)
    expect(code).to.equal(1)
    expect(pids.filter(runs)).to.deep.equal([])
  })

  for (const name of ['SIGINT', 'SIGTERM'] as const)
    it(`ends with a summary and without processes on ${name}`, async () => {
      const environment = { FIXTURE_FAILS: '1', FIXTURE_WAITS: '1' }
      const { code, output, pids } = await runFixture(environment, { name, cue: 'it waits' })
      expect(output).to.match(/1 passing[^]*1 failing[^]*as it was told/)
      expect(output).to.match(/interrupted in: a fixture waits for ever.*\n.* 1 of 3$/m)
      expect(code).to.equal(130)
      expect(pids).to.have.length(2)
      expect(pids.filter(runs)).to.deep.equal([])
    })
})

describe('the quick run of the tests', () => {
  it('leaves out only files that are there', () => {
    expect(Object.keys(slowSeconds).filter((file) => !existsSync(file))).to.deep.equal([])
  })

  it('has every other file, a new one too', () => {
    const quick = quickTests().map(sourceOf)
    expect(quick).to.include('test/support/session/reporter.test.ts')
    expect(quick.filter((file) => file in slowSeconds)).to.deep.equal([])
    expect(estimatedSeconds(['dist/test/of-tomorrow.test.js'])).to.be.above(0)
  })

  it('takes less than two minutes', () => {
    expect(estimatedSeconds(quickTests())).to.be.below(120)
  })
})
