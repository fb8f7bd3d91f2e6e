import { expect } from 'chai'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { TargetManager } from '../../src/manage/commands.ts'
import { checkConfig } from '../../src/config/config.ts'
import { Target } from '../../src/daemon/target.ts'
import { systemWorld } from '../support/world.ts'

describe('a remote that could not be added as a leg', () => {
  it('is given up at its target', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'dst-added-'))
    const world = () => systemWorld()
    const far = new Target(
      checkConfig(
        {
          devices: { small: { type: 'memory', size: '1M' } },
          exports: { small: { device: 'small' } },
          listeners: [{ protocol: 'dst', address: 'unix:far' }],
          state: { directory: join(folder, 'far-state') },
        },
        folder,
      ).config,
      world(),
    )
    await far.start()
    const near = new Target(
      checkConfig(
        {
          devices: { m: { type: 'mirror', legs: { only: { type: 'memory', size: '8M' } } } },
          state: { directory: join(folder, 'near-state') },
        },
        folder,
      ).config,
      world(),
    )
    await near.start()
    const manager = new TargetManager(near, 'test')
    const device = { type: 'remote', uri: `dst+unix:///small?socket=${join(folder, 'far')}` }
    const said = await manager.run('leg.add', { volume: 'm', leg: 'c' }, { device }).then(
      () => 'done',
      (error: unknown) => (error as Error).message,
    )
    const was = await far.resetClaim('small')
    await near.stop()
    await far.stop()
    rmSync(folder, { recursive: true })
    expect(said).to.include('room')
    expect(was.held).to.equal(0)
  })
})
