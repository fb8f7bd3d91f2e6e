import { expect } from 'chai'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { StorageError } from '../../src/base/errors.ts'
import { TargetManager } from '../../src/manage/commands.ts'
import { checkConfig } from '../../src/config/config.ts'
import { Target } from '../../src/daemon/target.ts'
import { systemWorld } from '../support/world.ts'

const memory = { type: 'memory', size: '8M' }

describe('adding a leg to a running target', () => {
  let folder: string
  let target: Target
  let manager: TargetManager
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'dst-legs-'))
    const inner = { type: 'mirror', legs: { only: memory } }
    const devices = {
      whole: { type: 'linear', parts: [inner, memory] },
      spare: { type: 'memory', size: '16M' },
    }
    const world = systemWorld()
    target = new Target(checkConfig({ devices }, folder).config, world)
    manager = new TargetManager(target, 'test')
    await target.start()
  })
  afterEach(async () => {
    await target.stop()
    rmSync(folder, { recursive: true })
  })

  /** What it is refused with; '' when it is carried out. */
  async function add(leg: string, device: unknown): Promise<string> {
    try {
      await manager.run('leg.add', { volume: 'whole/0', leg }, { device })
    } catch (error) {
      if (error instanceof StorageError) return error.message
      throw error
    }
    return ''
  }

  it('takes a device that is part of no other', async () => {
    expect(await add('second', 'spare')).to.equal('')
    expect(await add('third', 'spare')).to.include('part of another')
  })

  it('refuses a leg that is there before it touches anything, and keeps the old one', async () => {
    const file = { type: 'file', path: join(folder, 'made.img'), size: '16M', create: true }
    const before = target.tree.find('whole/0/only')
    expect(await add('only', file)).to.include('there is a leg')
    expect(existsSync(file.path)).to.equal(false)
    expect(target.tree.find('whole/0/only')).to.equal(before)
    expect(await add('second', 'spare')).to.equal('')
    const other = { ...memory, size: '16M' }
    expect(await add('second', other)).to.include('there is a leg')
    const both = await Promise.all([add('third', other), add('third', other)])
    expect(both.filter((refusal) => refusal.includes('there is a leg'))).to.have.length(1)
  })

  it('refuses a device that the volume is a part of', async () => {
    expect(await add('round', 'whole')).to.include('part of it')
    expect(target.tree.roots.map(({ path }) => path)).to.deep.equal(['whole', 'spare'])
  })

  it('refuses what no configuration may say, and lives on', async () => {
    let deep: object = memory
    for (let level = 0; level < 2500; level++) deep = { type: 'log', device: deep }
    expect(await add('deep', deep)).to.include('nested')
    expect(await add('huge', { type: 'memory', size: 1e21 })).to.include('/devices/huge/size')
    for (const name of ['a/b', '..', '', '__proto__', 'x'.repeat(65)])
      expect(await add(name, 'spare'), name).to.include('cannot be used')
  })
})
