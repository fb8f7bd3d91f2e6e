import { expect } from 'chai'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { open } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { dst, Workshop } from '../support/process.ts'
import { legsReach } from '../support/volume.ts'

const management = 'unix:dst.sock'
const memory = { type: 'memory', size: '64M' }

describe('dst verify', function () {
  let workshop: Workshop
  beforeEach(async () => {
    workshop = new Workshop()
    const devices = { home: { type: 'mirror', legs: { left: memory, right: memory } } }
    await workshop.serve('t', { management: { address: management }, devices })
    await legsReach(workshop.folder, management, ['in-sync'], 120_000)
  })
  afterEach(() => workshop.close())

  const run = (...words: string[]) => dst([...words, '--management', management], workshop.folder)

  /** A verify that would take more than two minutes, once status shows it. */
  async function begin() {
    const words = ['verify', 'home', '--speed', '500K', '--management', management]
    const child = spawn(process.execPath, [resolve('dist/src/cli/main.js'), ...words], {
      cwd: workshop.folder,
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    let said = ''
    child.stdout.on('data', (text: Buffer) => (said += text.toString()))
    const over = once(child, 'close') as Promise<[number | null]>
    while (!/^home .* verify \[[#-]+\] {2}\d/m.test((await run('status')).stdout)) await sleep(100)
    return { child, end: async () => ({ code: (await over)[0], said }) }
  }

  it('is shown by status, and can be ended by somebody else', async () => {
    const { end } = await begin()
    const second = await run('verify', 'home')
    expect(second.stderr).to.include('under way already')
    expect((await run('verify', 'home', '--stop')).code).to.equal(0)
    const { code, said } = await end()
    expect(code).to.equal(1)
    expect(said).to.match(/, not all, compared: the legs are equal$/m)
    expect((await run('verify', 'home')).stdout).to.match(/^63\.\d MiB compared/)
  })

  it('ends with what it found when it is interrupted', async () => {
    const { child, end } = await begin()
    child.kill('SIGINT')
    const { code, said } = await end()
    expect(code).to.equal(1)
    expect(said).to.include('not all')
    expect((await run('verify', 'home')).code).to.equal(0)
  })
})

describe('what dst verify found', () => {
  let workshop: Workshop
  beforeEach(() => (workshop = new Workshop()))
  afterEach(() => workshop.close())

  const run = (...words: string[]) => dst([...words, '--management', management], workshop.folder)

  it('is shown by status with its bytes and what mends it, and so is the next one', async () => {
    const leg = (path: string) => ({ type: 'file', path, size: '16M', create: true })
    const home = {
      type: 'mirror',
      legs: { left: leg('left.img'), right: leg('right.img') },
      verify: { every: '168h' },
    }
    await workshop.serve('t', { management: { address: management }, devices: { home } })
    await legsReach(workshop.folder, management, ['in-sync'], 120_000)
    const right = await open(join(workshop.folder, 'right.img'), 'r+')
    await right.write(Buffer.alloc(512, 9), 0, 512, 1_048_576)
    await right.close()
    expect((await run('verify', 'home')).stdout).to.match(
      /^ {2}512 bytes at 1048576: left, right$/m,
    )
    const degraded = await run('status')
    expect(degraded.code).to.equal(1)
    expect(degraded.stdout).to.include('left and right differ in 512 bytes at 1048576')
    expect(degraded.stdout).to.include('`dst verify home --repair-from LEG`')
    expect((await run('verify', 'home', '--repair-from', 'left')).code).to.equal(0)
    const well = await run('status')
    expect(well.code).to.equal(0)
    expect(well.stdout).to.match(/verified \d\d:\d\d:\d\d {2}verify next 2\d{3}-/)
  })
})
