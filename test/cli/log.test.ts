import { expect } from 'chai'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, openSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { openExport } from '../../src/cli/open.ts'
import { Operation } from '../../src/device/request.ts'
import { submit } from '../support/io.ts'
import { dst, Workshop, type DstProcess } from '../support/process.ts'

interface Line {
  readonly msg: string
  readonly err?: { readonly code: string; readonly message: string }
}

describe('the log of a target', function () {
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

  for (const kind of ['a pipe', 'a socket'])
    it(`may be read by nobody: clients are served all the same (${kind})`, async () => {
      workshop.write('target', {
        listeners: [{ protocol: 'nbd', address: 'unix:n.sock' }],
        devices: { a: { type: 'log', device: { type: 'memory', size: '1M' } } },
        exports: { a: { device: 'a' } },
      })
      const stuck = join(workshop.folder, 'stuck')
      if (kind === 'a pipe') execFileSync('mkfifo', [stuck])
      // Opened for both, it has a reader, and one that reads nothing.
      const stderr = kind === 'a pipe' ? openSync(stuck, constants.O_RDWR) : 'pipe'
      const child = spawn(
        process.execPath,
        [resolve('dist/src/cli/main.js'), 'serve', 'target.json'],
        {
          cwd: workshop.folder,
          stdio: ['ignore', 'pipe', stderr],
        },
      )
      workshop.later(() => child.kill('SIGKILL'))
      await new Promise<void>((ready) =>
        child.stdout!.on('data', (text: Buffer) => {
          if (text.toString().includes('ready')) ready()
        }),
      )
      const uri = `nbd+unix:///a?socket=${join(workshop.folder, 'n.sock')}`
      const device = await openExport(uri)
      // A line each: several times of what a pipe or a socket holds.
      for (let at = 0; at < 4000; at++)
        expect((await submit(device, Operation.read, 0, 512)).error).to.equal(null)
      await device.close()
      const ended = once(child, 'exit')
      child.kill('SIGTERM')
      expect(await ended).to.deep.equal([0, null])
      if (typeof stderr === 'number') closeSync(stderr)
    })

  it('says how many lines nobody read in time', async () => {
    workshop.write('target', {
      listeners: [{ protocol: 'nbd', address: 'unix:n.sock' }],
      devices: { a: { type: 'log', device: { type: 'memory', size: '1M' } } },
      exports: { a: { device: 'a' } },
    })
    const child = spawn(
      process.execPath,
      [resolve('dist/src/cli/main.js'), 'serve', 'target.json'],
      {
        cwd: workshop.folder,
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    )
    workshop.later(() => child.kill('SIGKILL'))
    await once(child.stdout, 'data')
    const device = await openExport(`nbd+unix:///a?socket=${join(workshop.folder, 'n.sock')}`)
    for (let at = 0; at < 12_000; at++) await submit(device, Operation.read, 0, 512)
    await device.close()
    let said = ''
    await new Promise<void>((told) =>
      child.stderr.on('data', (text: Buffer) => {
        said += text.toString()
        if (said.includes('lines were dropped')) told()
      }),
    )
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
