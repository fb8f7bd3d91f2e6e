import { expect } from 'chai'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { StorageError } from '../../src/base/errors.ts'
import { TargetManager } from '../../src/manage/commands.ts'
import { checkConfig } from '../../src/config/config.ts'
import { Target } from '../../src/daemon/target.ts'
import { Operation } from '../../src/device/request.ts'
import { systemWorld } from '../support/world.ts'

describe('a leg whose metadata could not be erased when it was exported', () => {
  it('can be added again', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'dst-exported-'))
    const file = (name: string) => ({
      type: 'file',
      path: join(folder, name),
      size: '8M',
      create: true,
    })
    const target = new Target(
      checkConfig(
        {
          devices: { m: { type: 'mirror', legs: { a: file('a'), b: file('b') } } },
          state: { directory: join(folder, 'state') },
        },
        folder,
      ).config,
      systemWorld(),
    )
    await target.start()
    const manager = new TargetManager(target, 'test')
    const said = (command: Promise<unknown>): Promise<string> =>
      command.then(
        () => 'done',
        (error: unknown) => (error as Error).message,
      )
    const b = target.tree.find('m/b')!
    const submit = b.driver.submit.bind(b.driver)
    b.driver.submit = (request) => {
      if (request.operation === Operation.writeZeroes)
        request.fail(new StorageError('IO', 'bad disk'))
      else submit(request)
    }
    const names = { volume: 'm', leg: 'b' }
    const exported = await said(manager.run('leg.export', names, {}))
    b.driver.submit = submit
    const device = { type: 'file', path: join(folder, 'b') }
    const again = await said(manager.run('leg.add', names, { device }))
    await target.stop()
    rmSync(folder, { recursive: true })
    expect([exported, again]).to.deep.equal(['bad disk', 'done'])
  })
})
