import { expect } from 'chai'
import { rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { spawn } from 'node:child_process'
import { dst, Workshop, type DstProcess } from '../support/process.ts'

interface Line {
  readonly msg: string
  readonly err?: { readonly code: string; readonly message: string }
}

describe('the log of a target', function () {
  this.timeout(120_000)
  let workshop: Workshop

  beforeEach(() => {
    workshop = new Workshop()
  })

  afterEach(() => workshop.close())

  function linesOf(target: DstProcess, text: string): Line[] {
    const lines = target.stderr.split('\n').filter((line) => line.includes(text))
    return lines.map((line) => JSON.parse(line) as Line)
  }

  async function logged(target: DstProcess, text: string): Promise<void> {
    while (linesOf(target, text).length === 0) {
      expect(target.running, target.stderr).to.equal(true)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  it('says once which file cannot be written and why, however often it is tried', async () => {
    const leg = { type: 'memory', size: '16M' }
    const target = await workshop.serve('target', {
      management: { address: 'unix:m.sock' },
      state: { directory: 'state' },
      devices: { home: { type: 'mirror', legs: { a: leg, b: leg }, suspend: { time: '3s' } } },
      exports: { home: { device: 'home' } },
    })
    const state = join(workshop.folder, 'state')
    rmSync(state, { recursive: true })
    writeFileSync(state, 'a file where the folder was')
    const words = ['leg', 'detach', 'home', 'b', '--management', 'unix:m.sock']
    const command = spawn(process.execPath, [resolve('dist/src/cli/main.js'), ...words], {
      cwd: workshop.folder,
      stdio: 'ignore',
    })
    workshop.later(() => command.kill())
    // It tries twice a second until the volume gives up.
    await logged(target, 'the state directory cannot be written')
    const lines = linesOf(target, 'cannot save its record')
    expect(lines, target.stderr).to.have.length(1)
    expect(lines[0]!.err!.message).to.contain(join(state, 'home.json'))
    expect(lines[0]!.err!.message).to.contain('a file is in its place')
  })

  it('has a target end with a sentence when the folder of a socket cannot be made', async () => {
    workshop.write('target', {
      management: { address: 'unix:/proc/nope/m.sock' },
      devices: { a: { type: 'memory', size: '1M' } },
      exports: { a: { device: 'a' } },
    })
    const { code, stderr } = await dst(['serve', 'target.json'], workshop.folder)
    expect(code).to.be.oneOf([1, 2])
    expect(stderr).to.match(/^dst: error: making the folder \/proc\/nope: \/proc takes no folders/m)
  })
})
