import { expect } from 'chai'
import { chmodSync, cpSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { textOf } from '../../src/cli/log-text.ts'
import { dst, Workshop } from '../support/process.ts'
import { mustRun } from '../support/programs.ts'

describe('what a user installs', () => {
  let workshop: Workshop
  beforeEach(() => (workshop = new Workshop()))
  afterEach(() => workshop.close())

  it('is a package of what runs, built by itself, with the command', async () => {
    const clone = join(workshop.folder, 'clone')
    // All that a clone has, also what npm reads of it: an .npmrc can keep it from building.
    const others = new Set(['node_modules', 'dist', 'data', '.git'].map((name) => resolve(name)))
    cpSync('.', clone, { recursive: true, filter: (path) => !others.has(resolve(path)) })
    symlinkSync(resolve('node_modules'), join(clone, 'node_modules'))
    // Else an npm that runs this test would have the package built in its own folder.
    const outside = Object.entries(process.env).filter(([name]) => !name.startsWith('npm_'))
    const run = { cwd: clone, timeout: 280_000, env: Object.fromEntries(outside) }
    await mustRun('npm', ['pack', '--silent', '--pack-destination', workshop.folder], run)
    const packed = readdirSync(workshop.folder).find((name) => name.endsWith('.tgz'))!
    expect(packed).to.match(/^dst-target-/)
    const listed = await mustRun('tar', ['tzf', packed], { cwd: workshop.folder })
    const files = listed.trimEnd().split('\n')
    expect(files).to.include('package/dist/src/cli/main.js')
    expect(files).to.include('package/schemas/config.schema.json')
    expect(files.length).to.be.below(400)
    expect(files.filter((name) => /\/(test|bench)\/|\.ts$|\.map$/.test(name))).to.deep.equal([])
    // As npm puts it on the PATH: a link to the file, with the dependencies beside it.
    await mustRun('tar', ['xzf', packed], { cwd: workshop.folder })
    symlinkSync(resolve('node_modules'), join(workshop.folder, 'package/node_modules'))
    const main = join(workshop.folder, 'package/dist/src/cli/main.js')
    chmodSync(main, 0o755)
    const bin = join(workshop.folder, 'bin')
    mkdirSync(bin)
    symlinkSync(main, join(bin, 'dst'))
    const checked = await mustRun(join(bin, 'dst'), ['check', 'clone/config.example.json'], {
      cwd: workshop.folder,
    })
    expect(checked).to.include('is right')
  })

  it('begins with a configuration that can be served, and is not overwritten', async () => {
    const made = await dst(['init', 'storage', '--size', '16M'], workshop.folder)
    expect(made.code, made.stderr).to.equal(0)
    const checked = await dst(['check', 'storage/config.json'], workshop.folder)
    expect(checked.stderr).to.equal('')
    expect(checked.code).to.equal(0)
    const again = await dst(['init', 'storage'], workshop.folder)
    expect(again.code).to.equal(1)
    expect(again.stderr).to.include('is there already')
    expect((await dst(['init', 'x', '--size', '1g'], workshop.folder)).stderr).to.include('"1G"')
  })

  it('completes commands in a shell', async () => {
    const { code, stdout } = await dst(['completion'], workshop.folder)
    expect(code).to.equal(0)
    expect(stdout).to.include('dst --get-yargs-completions')
    const words = await dst(['--get-yargs-completions', 'dst', 'ver'], workshop.folder)
    expect(words.stdout).to.include('verify')
  })

  it('warns of files that a target which runs has locked', async () => {
    const disk = { type: 'file', path: 'disk.img', size: '8M', create: true }
    await workshop.serve('t', { devices: { disk } })
    const { code, stderr } = await dst(['check', 't.json'], workshop.folder)
    expect(code).to.equal(0)
    expect(stderr).to.match(/^dst: warning: \S+disk\.img is in use by a program that runs/)
  })

  it('warns of a state directory that a target which runs has locked', async () => {
    const leg = { type: 'memory', size: '8M' }
    const devices = { home: { type: 'mirror', legs: { a: leg, b: leg } } }
    const state = { directory: 'state' }
    await workshop.serve('t', { devices, state })
    workshop.write('other', { devices, state })
    const { code, stderr } = await dst(['check', 'other.json'], workshop.folder)
    expect(code).to.equal(0)
    expect(stderr).to.match(/^dst: warning: \S+state\/lock is in use by a program that runs/)
  })

  it('reads a log on a terminal as text', () => {
    const time = new Date(2026, 1, 3, 4, 5, 6)
    const err = { code: 'IO', message: 'no room\u001b[2J' }
    expect(textOf({ time, level: 40, msg: 'home waits', err })).to.equal(
      '04:05:06  warning  home waits: no room\\u001b[2J\n',
    )
    expect(textOf({ time, level: 30, msg: 'serving' })).to.equal('04:05:06  info     serving\n')
  })
})
