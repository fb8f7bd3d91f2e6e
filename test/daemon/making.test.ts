import { expect } from 'chai'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { answerMs } from '../../src/base/deadline.ts'
import { StorageError } from '../../src/base/errors.ts'
import type { Device } from '../../src/device/device.ts'
import { TargetManager } from '../../src/manage/commands.ts'
import { checkConfig } from '../../src/config/config.ts'
import { whyNotMade } from '../../src/daemon/making.ts'
import { Target } from '../../src/daemon/target.ts'
import { ManualClock } from '../support/clock.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { systemWorld } from '../support/world.ts'

describe('the file of a leg', function () {
  let folder: string
  let target: Target | null = null
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'dst-making-'))))
  afterEach(async () => {
    await target?.stop()
    target = null
    rmSync(folder, { recursive: true })
  })

  const path = (name: string): string => join(folder, name)
  const leg = (name: string) => ({ type: 'file', path: name, size: '16M', create: true })
  const home = (right: object) => ({
    home: { type: 'mirror', legs: { left: leg('left.img'), right } },
  })

  async function start(devices: object): Promise<Target> {
    const world = systemWorld()
    const state = { directory: path('state') }
    target = new Target(checkConfig({ devices, state }, folder).config, world)
    await target.start()
    return target
  }

  const device = (name: string): Device => target!.tree.find(name)!

  function reaches(name: string, word: string): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (device(name).state.word !== word) return
        device(name).unwatch(look)
        resolve()
      }
      device(name).watch(look)
      look()
    })
  }

  /** What a command is refused with; '' when it is carried out. */
  async function run(command: string, leg: string, options: object = {}): Promise<string> {
    try {
      const manager = new TargetManager(target!, 'test')
      await manager.run(command, { volume: 'home', leg }, options as Record<string, unknown>)
    } catch (error) {
      if (error instanceof StorageError) return error.message
      throw error
    }
    return ''
  }

  it('is made for a new volume, and not a second time before an operator says so', async () => {
    const rights = {
      plain: leg('right.img'),
      part: { type: 'linear', parts: [leg('right.img'), leg('rest.img')] },
    }
    for (const right of Object.values(rights)) {
      await start(home(right))
      await reaches('home', 'online')
      await target!.stop()
      rmSync(path('right.img'))
      await start(home(right))
      expect(device('home').state).to.include({ word: 'degraded', reason: 'right is missing' })
      expect(existsSync(path('right.img'))).to.equal(false)
      const file = target!.tree.find('home/right/0') ?? device('home/right')
      expect(file.state.reason).to.include('`dst leg attach home right --replace` makes')
      expect(await run('leg.attach', 'right')).to.include('opening')
      expect(existsSync(path('right.img'))).to.equal(false)
      expect(await run('leg.attach', 'right', { replace: true })).to.equal('')
      await reaches('home', 'online')
      await target!.stop()
      for (const name of readdirSync(folder)) rmSync(path(name), { recursive: true })
    }
  })

  it('is not made in a folder that is not there, nor is the folder', async () => {
    mkdirSync(path('disk'))
    const right = leg('disk/right.img')
    await start(home(right))
    await reaches('home', 'online')
    await target!.stop()
    renameSync(path('disk'), path('unplugged'))
    rmSync(path('state'), { recursive: true })
    await start(home(right))
    expect(device('home/right').state.reason).to.include('there is no folder')
    expect(await run('volume.start', '', { force: true })).to.equal('')
    expect(await run('leg.attach', 'right', { replace: true })).to.include('there is no folder')
    expect(existsSync(path('disk'))).to.equal(false)
    renameSync(path('unplugged'), path('disk'))
    await reaches('home', 'online')
  })

  it('is made again for a leg that was removed', async () => {
    const right = leg('right.img')
    await start(home(right))
    await reaches('home', 'online')
    expect(await run('leg.remove', 'right')).to.equal('')
    await target!.stop()
    rmSync(path('right.img'))
    await start(home(right))
    await reaches('home', 'online')
    expect(existsSync(path('right.img'))).to.equal(true)
  })

  it('is gone again when the command is refused that it was made for', async () => {
    await start(home(leg('right.img')))
    await reaches('home', 'online')
    const small = { type: 'file', path: path('third.img'), size: '1M', create: true }
    expect(await run('leg.add', 'third', { device: small })).to.include('room for')
    expect(existsSync(small.path)).to.equal(false)
    const nowhere = { ...small, path: path('nowhere/third.img'), size: '16M' }
    expect(await run('leg.add', 'third', { device: nowhere })).to.include('there is no folder')
    expect(existsSync(path('nowhere'))).to.equal(false)
    writeFileSync(small.path, Buffer.alloc(1 << 20))
    expect(await run('leg.add', 'third', { device: small })).to.include('room for')
    expect(existsSync(small.path), 'somebody else made it').to.equal(true)
  })

  it('keeps no start waiting without end for a state directory that hangs', async () => {
    const store = new MemoryStore()
    store.load = () => new Promise(() => undefined)
    const clock = new ManualClock()
    const spot = { volume: 'home', name: 'left' }
    const asked = whyNotMade(spot, path('left.img'), { store, replaced: new Set(), clock })
    clock.advance(answerMs)
    expect(await asked.catch((error: unknown) => (error as StorageError).code)).to.equal('TIMEOUT')
  })
})
