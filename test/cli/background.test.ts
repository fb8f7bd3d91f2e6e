import { expect } from 'chai'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'

import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { startBridge, stopBridge } from '../../src/cli/background.ts'

const folder = '/run/dst'
const device = '/dev/nbd99'
/** Nobody answers there, which does not keep a bridge from being ready. */
const uri = 'dst://127.0.0.1:1/none'

describe('a bridge that stays behind dst attach', function () {
  let place: string
  let victim: string
  const program = process.argv[1]!

  before(function () {
    // It is root's alone, and not to be disturbed where somebody uses it.
    if (process.getuid?.() !== 0 || existsSync(folder)) this.skip()
  })
  beforeEach(() => {
    place = mkdtempSync(join(tmpdir(), 'dst-bridge-'))
    victim = join(place, 'victim')
    writeFileSync(victim, 'precious')
    process.argv[1] = resolve('dist/src/cli/main.js')
  })
  afterEach(async () => {
    process.argv[1] = program
    await stopBridge(device)
    rmSync(folder, { recursive: true, force: true })
    rmSync(place, { recursive: true })
  })

  /** One that has ended and that nobody has asked for has no words. */
  function lives(pid: number): boolean {
    const path = `/proc/${pid}/cmdline`
    return existsSync(path) && readFileSync(path, 'utf8') !== ''
  }

  async function refusal(): Promise<string> {
    return startBridge(device, uri, []).then(
      () => 'started',
      (error: unknown) => (error as Error).message,
    )
  }

  it('writes nothing into a folder that another user can change', async () => {
    mkdirSync(folder)
    for (const name of ['nbd99.json', 'nbd99.log']) symlinkSync(victim, join(folder, name))
    chownSync(folder, 65534, 65534)
    expect(await refusal()).to.match(/belongs to another user \(65534\): root does not write there/)
    chownSync(folder, 0, 0)
    chmodSync(folder, 0o777)
    expect(await refusal()).to.contain('can be written to by others')
    rmSync(folder, { recursive: true })
    symlinkSync(place, folder)
    expect(await refusal()).to.contain('is no folder')
    expect(readFileSync(victim, 'utf8')).to.equal('precious')
    expect(existsSync(join(place, 'nbd99.json'))).to.equal(false)
  })

  it('follows no link that was left in its folder', async () => {
    mkdirSync(folder)
    for (const name of ['nbd99.json', 'nbd99.log']) symlinkSync(victim, join(folder, name))
    expect(await refusal()).to.equal('started')
    expect(readFileSync(victim, 'utf8')).to.equal('precious')
    const { pid } = JSON.parse(readFileSync(join(folder, 'nbd99.json'), 'utf8')) as { pid: number }
    expect(lives(pid)).to.equal(true)
    await stopBridge(device)
    expect(lives(pid)).to.equal(false)
  })

  it('is found and ended when its folder was removed', async () => {
    expect(await refusal()).to.equal('started')
    const { pid } = JSON.parse(readFileSync(join(folder, 'nbd99.json'), 'utf8')) as { pid: number }
    rmSync(folder, { recursive: true })
    await stopBridge(device)
    expect(lives(pid)).to.equal(false)
  })
})
