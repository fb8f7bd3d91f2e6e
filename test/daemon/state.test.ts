import { expect } from 'chai'
import fs from 'node:fs/promises'
import { join } from 'node:path'
import { StorageError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { loadConfig } from '../../src/config/config.ts'
import { StateLock } from '../../src/daemon/state-lock.ts'
import { FileStore } from '../../src/daemon/state.ts'
import { Target } from '../../src/daemon/target.ts'
import { Claims } from '../../src/export/claims.ts'
import { removeFolder, temporaryFolder } from '../support/files.ts'
import { systemWorld } from '../support/world.ts'

async function problemOf(promise: Promise<unknown>): Promise<StorageError | null> {
  return promise.then(
    () => null,
    (error: unknown) => error as StorageError,
  )
}

describe('a state directory', () => {
  let folder: string
  beforeEach(async () => (folder = await temporaryFolder()))
  afterEach(() => removeFolder(folder))

  const path = (name: string): string => join(folder, name)

  it('gives back what was saved, also from a version that wrote no checksum', async () => {
    const store = new FileStore(folder)
    expect(await store.load('home')).to.equal(null)
    for (const text of ['{"a":1}', '', 'two\nlines\n', '7 0 -']) {
      await store.save('home', text)
      expect(await new FileStore(folder).load('home')).to.equal(text)
    }
    await fs.writeFile(path('home.json'), '{"older":true}')
    expect(await store.load('home')).to.equal('{"older":true}')
  })

  it('calls every change of a file damage', async () => {
    const store = new FileStore(folder)
    const text = JSON.stringify({ members: ['left', 'right'], generation: 12 })
    await store.save('home', text)
    const whole = await fs.readFile(path('home.json'))
    for (let at = 0; at < text.length; at++) {
      const changed = Buffer.from(whole)
      changed[at]! ^= 1
      await fs.writeFile(path('home.json'), changed)
      const problem = await problemOf(store.load('home'))
      expect(problem?.message, `byte ${at}`).to.include('is damaged')
    }
  })

  for (const [what, put] of [
    ['a folder', (file: string) => fs.mkdir(file)],
    ['a link to nowhere', (file: string) => fs.symlink('/nowhere/at/all', file)],
    ['a link to another file', (file: string) => fs.symlink('/etc/hostname', file)],
    [
      'far too large',
      async (file: string) => {
        await fs.writeFile(file, '{}')
        await fs.truncate(file, 3 * 2 ** 30)
      },
    ],
  ] as const)
    it(`does not take ${what} for a file, nor for nothing`, async () => {
      await put(path('home.json'))
      const problem = await problemOf(new FileStore(folder).load('home'))
      expect(problem?.code).to.equal('IO')
    })

  it('is written to through no link', async () => {
    await fs.writeFile(path('victim'), 'precious')
    await fs.symlink(path('victim'), path('home.json.new'))
    const problem = await problemOf(new FileStore(folder).save('home', 'x'))
    expect(problem).to.not.equal(null)
    expect(await fs.readFile(path('victim'), 'utf8')).to.equal('precious')
  })

  it('keeps what cannot be read, besides what is saved in its place', async () => {
    const store = new FileStore(folder)
    expect(await store.setAside('home')).to.equal('')
    const names: string[] = []
    for (const text of ['garbage', 'more of it']) {
      await fs.writeFile(path('home.json'), text)
      names.push(await store.setAside('home'))
      expect(await fs.readFile(path('home.json'), 'utf8')).to.equal(text)
      await store.save('home', 'x')
      expect(await fs.readFile(names.at(-1)!, 'utf8')).to.equal(text)
    }
    expect(await fs.readFile(names[0]!, 'utf8')).to.equal('garbage')
    expect(await store.load('home')).to.equal('x')
  })

  it('has no names pile up where it cannot be made durable that they are there', async () => {
    const store = new FileStore(folder)
    await fs.writeFile(path('home.json'), 'garbage')
    const { open } = fs
    fs.open = (name, ...rest) =>
      name === folder ? Promise.reject(new Error('bad disk')) : open(name, ...rest)
    try {
      for (let turn = 0; turn < 2; turn++)
        expect(String(await problemOf(store.setAside('home')))).to.include('bad disk')
    } finally {
      fs.open = open
    }
    expect(await fs.readdir(folder)).to.deep.equal(['home.json'])
  })

  it('has claims of devices that are whole, or none is let in', async () => {
    const id = 'a'.repeat(32)
    for (const text of ['[]', '1', '1e400', 'null', '"x"', '{"x":1}', `{"${id}":1.5}`, '{']) {
      const store = new FileStore(folder)
      await store.save('target.claims', text)
      const problem = await new Promise<StorageError | null>((resolve) => {
        new Claims(store).ready(resolve)
      })
      expect(problem?.message, text).to.include('damaged')
    }
  })

  it('has one owner, and says which', async () => {
    const first = new StateLock(folder, silentLog)
    await first.acquire()
    const problem = await problemOf(new StateLock(folder, silentLog).acquire())
    expect(problem).to.include({ code: 'CONFIG' })
    expect(problem!.message).to.include(`process ${process.pid}`).and.include(folder)
    await first.release()
    const second = new StateLock(folder, silentLog)
    await second.acquire()
    await second.release()
  })

  it('is written to no more once a target has stopped, whoever waited for that', async () => {
    const file = path('c.json')
    await fs.writeFile(file, JSON.stringify({ devices: { home: { type: 'memory', size: '1M' } } }))
    const world = systemWorld()
    const target = new Target(loadConfig(file, 'awaited').config, world)
    await target.start()
    for (const text of ['1', '2', '3']) void target.tree.store.save('home', text)
    await target.stop()
    expect(await new FileStore(path('data/state')).load('home')).to.equal('3')
    expect(await fs.readdir(path('data/state'))).to.not.include('home.json.new')
  })

  it('that cannot be made or locked is used as it is', async () => {
    await fs.writeFile(path('file'), '')
    await new StateLock(path('file/state'), silentLog).acquire()
    await fs.mkdir(path('odd/lock'), { recursive: true })
    await new StateLock(path('odd'), silentLog).acquire()
  })
})
