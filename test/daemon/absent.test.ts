import { expect } from 'chai'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MiB } from '../../src/base/size.ts'
import type { Device } from '../../src/device/device.ts'
import { checkConfig } from '../../src/config/config.ts'
import { Target } from '../../src/daemon/target.ts'
import { systemWorld } from '../support/world.ts'

const memory = { type: 'memory', size: '8M' }
const leg = (path: string) => ({ type: 'file', path, size: '16M', create: true })

/** Resolves when the device says so of itself. */
function reaches(device: Device, so: (device: Device) => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (!so(device)) return
      device.unwatch(look)
      resolve()
    }
    device.watch(look)
    look()
  })
}

describe('a target whose devices are not all there', function () {
  let folder: string
  let target: Target | null = null
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'dst-absent-'))))
  afterEach(async () => {
    await target?.stop()
    target = null
    rmSync(folder, { recursive: true })
  })

  const path = (name: string): string => join(folder, name)

  /** Starts a target with devices that were right when the configuration was checked. */
  async function start(devices: object): Promise<Target> {
    const world = systemWorld()
    const state = { directory: path('state') }
    target = new Target(checkConfig({ devices, state }, folder).config, world)
    await target.start()
    return target
  }

  const device = (name: string): Device => target!.tree.find(name)!

  it('serves the others, and says of each why it is not there', async () => {
    for (const name of ['gone', 'folder', 'small']) writeFileSync(path(name), Buffer.alloc(MiB))
    mkdirSync(path('dir'))
    const file = (name: string) => ({ type: 'file', path: name, size: '1M' })
    const devices = {
      gone: file('gone'),
      folder: file('folder'),
      small: file('small'),
      whole: { type: 'linear', parts: [file('part'), memory] },
      far: { type: 'remote', uri: 'dst://no.such.host.invalid/x' },
      good: memory,
    }
    writeFileSync(path('part'), Buffer.alloc(MiB))
    const checked = checkConfig({ devices, state: { directory: path('state') } }, folder)
    for (const name of ['gone', 'folder', 'part']) rmSync(path(name))
    mkdirSync(path('folder'))
    truncateSync(path('small'), 1000)
    const world = systemWorld()
    target = new Target(checked.config, world)
    await target.start()
    expect(device('good').state.word).to.equal('online')
    for (const [name, why] of [
      ['gone', 'gone is not there'],
      ['folder', 'folder is a directory'],
      ['small', 'has 1000 B (1000 bytes), not 1.0 MiB'],
      ['whole', 'whole/0 is opening'],
      ['far', 'no.such.host.invalid'],
    ] as const) {
      expect(device(name).state.word, name).to.equal('opening')
      expect(device(name).state.reason, name).to.include(why)
    }
    rmSync(path('folder'), { recursive: true })
    for (const name of ['gone', 'folder', 'part']) writeFileSync(path(name), Buffer.alloc(MiB))
    truncateSync(path('small'), MiB)
    for (const name of ['gone', 'folder', 'small', 'whole'])
      await reaches(device(name), ({ state }) => state.word === 'online')
  })

  it('starts a volume without the leg that is missing, and fills in what it missed', async () => {
    const linear = { type: 'linear', parts: [leg('first.img'), leg('right.img')] }
    const devices = { home: { type: 'mirror', legs: { left: leg('left.img'), right: linear } } }
    await start(devices)
    await reaches(device('home'), ({ state }) => state.word === 'online')
    await target!.stop()
    renameSync(path('right.img'), path('away.img'))
    symlinkSync(path('nowhere'), path('right.img'))
    await start(devices)
    expect(device('home').state).to.include({ word: 'degraded', reason: 'right is missing' })
    expect(existsSync(path('nowhere')), 'made in its place').to.equal(false)
    rmSync(path('right.img'))
    renameSync(path('away.img'), path('right.img'))
    await reaches(device('home'), ({ state }) => state.word === 'online')
    const volume = device('home').driver.describe()
    expect(volume).to.include({ volume: 'healthy' })
  })

  it('notices that a file has grown, also one whose size is written', async () => {
    for (const name of ['free', 'fixed']) writeFileSync(path(name), Buffer.alloc(MiB))
    const file = (name: string) => ({ type: 'file', path: name })
    await start({ free: file('free'), fixed: { ...file('fixed'), size: '1M' } })
    for (const name of ['free', 'fixed']) truncateSync(path(name), 3 * MiB)
    await reaches(device('free'), ({ facts }) => facts?.size === 3 * MiB)
    await target!.looking.look()
    expect(device('fixed').facts!.size).to.equal(MiB)
    expect(device('fixed').driver.describe()).to.include({ bytesUnused: 2 * MiB })
  })

  it('waits for a file that another process has locked, and closes while it waits', async () => {
    writeFileSync(path('left.img'), Buffer.alloc(MiB))
    const holder = spawn('flock', [path('left.img'), 'sh', '-c', 'echo locked; cat'])
    await once(holder.stdout, 'data')
    await start({ left: { type: 'file', path: 'left.img' }, good: memory })
    expect(device('left').state.reason).to.include('is open for writing in another process')
    const over = once(holder, 'exit')
    holder.stdin.end()
    await over
    await reaches(device('left'), ({ state }) => state.word === 'online')
  })
})
