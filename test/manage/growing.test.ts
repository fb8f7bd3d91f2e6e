import { expect } from 'chai'
import { mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { StorageError } from '../../src/base/errors.ts'
import { MiB } from '../../src/base/size.ts'
import { TargetManager } from '../../src/manage/commands.ts'
import { loadConfig } from '../../src/config/config.ts'
import type { Growth } from '../../src/manage/growing.ts'
import type { Status } from '../../src/manage/status.types.ts'
import { Target } from '../../src/daemon/target.ts'
import { read, write } from '../support/io.ts'
import { systemWorld } from '../support/world.ts'

describe('growing by a command', () => {
  let folder: string
  const targets: Target[] = []
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'dst-grow-'))))
  afterEach(async () => {
    for (const target of targets.splice(0)) await target.stop()
    rmSync(folder, { recursive: true })
  })

  const file = (name: string, size?: string) =>
    size === undefined
      ? { type: 'file', path: `${name}.img` }
      : { type: 'file', path: `${name}.img`, size, create: true }

  async function start(legs: object, more: object = {}) {
    const devices = { home: { type: 'mirror', legs, ...more } }
    const world = systemWorld()
    const path = join(folder, 'c.json')
    writeFileSync(path, JSON.stringify({ devices }))
    const target = new Target(loadConfig(path, 'awaited').config, world)
    targets.push(target)
    await target.start()
    const manager = new TargetManager(target, 'test')
    const home = target.tree.find('home')!
    const run = (command: string, leg?: string, size?: number) =>
      manager.run(
        command,
        leg === undefined ? { volume: 'home' } : { volume: 'home', leg },
        size === undefined ? {} : { size },
      ) as Promise<Growth>
    const status = async () => (await manager.status()) as Status
    return { target, home, run, status }
  }

  const sizeOf = (name: string) => statSync(join(folder, `${name}.img`)).size

  async function refusal(promise: Promise<unknown>): Promise<string> {
    return promise.then(
      () => '',
      (error: unknown) => (error as StorageError).message,
    )
  }

  it('enlarges all legs, also files with a size, and says what to write down', async () => {
    const { home, run, status } = await start({
      left: file('left', '16M'),
      right: file('right', '16M'),
    })
    await write(home, 0, Buffer.alloc(4096, 1))
    const growth = await run('volume.grow', undefined, 64 * MiB)
    expect(growth.size).to.be.within(64 * MiB, 66 * MiB)
    expect(home.facts!.size).to.equal(growth.size)
    expect(sizeOf('left')).to.be.above(64 * MiB)
    const size = `"size": "${sizeOf('left') / 1024}K"`
    expect(growth.warning).to.include(`home/left was enlarged by a command`).and.include(size)
    expect((await status()).warnings).to.have.length(2)
    await write(home, 60 * MiB, Buffer.alloc(4096, 7))
  })

  it('is known to the next start, until the configuration says the same', async () => {
    const legs = (size: string) => ({ left: file('left', size), right: file('right', size) })
    const first = await start(legs('16M'))
    const { size } = await first.run('volume.grow', undefined, 64 * MiB)
    await write(first.home, 60 * MiB, Buffer.alloc(4096, 7))
    await first.target.stop()
    const second = await start(legs('16M'))
    expect(second.home.state.word).to.equal('online')
    expect(second.home.facts!.size).to.equal(size)
    expect((await read(second.home, 60 * MiB, 4096))[0]).to.equal(7)
    expect((await second.status()).warnings).to.have.length(2)
    await second.target.stop()
    const third = await start(legs(`${sizeOf('left') / 1024}K`))
    expect((await third.status()).warnings).to.deep.equal([])
    expect(third.home.facts!.size).to.equal(size)
  })

  it('is known to a start after a crash before the file was larger', async () => {
    const first = await start({ left: file('left', '16M'), right: file('right', '16M') })
    await first.target.tree.grown.note('home/left', 64 * MiB)
    await first.target.stop()
    const second = await start({ left: file('left', '16M'), right: file('right', '16M') })
    expect(second.home.state.word).to.equal('online')
  })

  it('of one leg says which other leg keeps the volume small, and status as well', async () => {
    const { home, run, status } = await start({
      left: file('left', '16M'),
      right: file('right', '16M'),
    })
    const { size } = home.facts!
    const growth = await run('leg.grow', 'left', 64 * MiB)
    expect(growth.size).to.equal(size)
    const hint = 'right has no more room; `dst leg grow home right SIZE`'
    expect(growth.reason).to.equal(hint)
    expect((await status()).devices['home']!.details['room']).to.equal(
      `grew: left by 48.0 MiB; ${hint}`,
    )
    expect((await run('leg.grow', 'right', 64 * MiB)).size).to.be.above(60 * MiB)
    expect((await status()).devices['home']!.details['room']).to.equal('')
  })

  it('uses what files with a size have grown by already', async () => {
    const { home, run, status } = await start({
      left: file('left', '16M'),
      right: file('right', '16M'),
    })
    const { size } = home.facts!
    for (const name of ['left', 'right']) truncateSync(join(folder, `${name}.img`), 32 * MiB)
    const left = (await status()).devices['home']!.legs!['left']!.device!
    expect(left.details['bytesUnused']).to.equal(16 * MiB)
    expect(home.facts!.size).to.equal(size)
    expect((await run('volume.grow')).size).to.be.above(size)
  })

  it('changes nothing where one leg cannot grow, and says how that one does', async () => {
    const { run } = await start({
      left: file('left', '16M'),
      right: { type: 'memory', size: '16M' },
    })
    const why = await refusal(run('volume.grow', undefined, 64 * MiB))
    expect(why).to.match(/^a memory does not grow: .*; 6\d\.\d MiB \(\d+ bytes\) are needed$/)
    expect(sizeOf('left')).to.equal(16 * MiB)
    expect(await refusal(run('leg.grow', 'left', 4096))).to.include('say a larger size')
    expect(await refusal(run('leg.grow', 'middle', 4096))).to.include('the legs are left, right')
    expect(await refusal(run('volume.grow', undefined, 4096))).to.include('does not shrink')
    expect(await refusal(run('leg.grow', 'left', -1))).to.include('number of bytes')
  })

  it('goes beyond the size of the volume in the configuration', async () => {
    const legs = { left: file('left', '32M'), right: file('right', '32M') }
    const { target, home, run } = await start(legs, { size: '8M' })
    expect(home.facts!.size).to.equal(8 * MiB)
    expect((await run('leg.grow', 'left', 40 * MiB)).reason).to.include(
      'the configuration has its size',
    )
    const { size, warning } = await run('volume.grow', undefined, 16 * MiB)
    expect(size).to.equal(16 * MiB)
    expect(sizeOf('right')).to.equal(32 * MiB)
    expect(warning).to.include('home was enlarged to 16M by a command').and.include('"size": "16M"')
    await target.stop()
    const again = await start(legs, { size: '8M' })
    expect((await again.status()).warnings?.join()).to.include(warning)
    await again.target.stop()
    const written = await start(legs, { size: '16M' })
    expect((await written.status()).warnings?.join()).to.not.include('home was enlarged')
  })

  it('never cuts a file short, whatever commands come at once', async () => {
    const legs = { left: file('left', '16M'), right: file('right', '16M') }
    const { home, run, status } = await start(legs)
    await write(home, 0, Buffer.alloc(4096, 5))
    const small = refusal(run('volume.grow', undefined, 24 * MiB))
    const sizes = [64 * MiB, 32 * MiB, 48 * MiB]
    await Promise.all([small, ...sizes.map((size) => refusal(run('leg.grow', 'left', size)))])
    expect(sizeOf('left')).to.equal(64 * MiB)
    const left = (await status()).devices['home']!.legs!['left']!
    expect(left.state).to.equal('in-sync')
    expect(left.device!.size).to.equal(64 * MiB)
    expect((await read(home, 0, 4096))[0]).to.equal(5)
  })

  it('takes nothing from a file that somebody enlarges meanwhile', async () => {
    const { target, run } = await start({ left: file('left', '16M'), right: file('right', '16M') })
    const { grown } = target
    const note = grown.note.bind(grown)
    grown.note = async (device, size) => {
      truncateSync(join(folder, 'left.img'), 64 * MiB)
      return note(device, size)
    }
    await run('leg.grow', 'left', 32 * MiB)
    expect(sizeOf('left')).to.equal(64 * MiB)
  })

  it('leaves a file without a size to grow by itself later', async () => {
    writeFileSync(join(folder, 'left.img'), '')
    truncateSync(join(folder, 'left.img'), 16 * MiB)
    const { run, status } = await start({ left: file('left'), right: file('right', '64M') })
    await run('leg.grow', 'left', 32 * MiB)
    truncateSync(join(folder, 'left.img'), 64 * MiB)
    expect((await status()).devices['home']!.legs!['left']!.device!.size).to.equal(64 * MiB)
  })

  it('refuses a size that no volume can have', async () => {
    const { home, run } = await start(
      { left: file('left', '32M'), right: file('right', '32M') },
      { size: '8M' },
    )
    expect(await refusal(run('volume.grow', undefined, 16 * MiB + 100))).to.include('multiple')
    expect(await refusal(run('volume.grow', undefined, Number.MAX_SAFE_INTEGER))).to.include('most')
    expect(home.facts!.size).to.equal(8 * MiB)
    expect(sizeOf('left')).to.equal(32 * MiB)
  })
})
