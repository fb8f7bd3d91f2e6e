import { expect } from 'chai'
import { constants, mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import fs, { type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { MiB } from '../../src/base/size.ts'
import { Loops, run } from '../support/loop.ts'
import { dst, Workshop } from '../support/process.ts'
import type { Outcome } from '../support/programs.ts'

describe('disks under a target', function () {
  let workshop: Workshop
  const loops = new Loops()

  before(function () {
    Loops.need(this)
  })
  beforeEach(() => {
    workshop = new Workshop()
  })
  afterEach(async () => {
    await workshop.close()
    loops.close()
  })

  /** Takes a disk as mounting it does; null when somebody else has it. */
  function take(disk: string): Promise<FileHandle | null> {
    return fs.open(disk, constants.O_RDONLY | constants.O_EXCL).catch(() => null)
  }

  function leg(...words: readonly string[]): Promise<Outcome> {
    return dst(['leg', ...words, '--management', 'unix:m.sock'], workshop.folder)
  }

  it('a detached leg can be mounted, and is not taken back before it is free', async () => {
    const [left, right] = [
      loops.make(workshop.folder, 32 * MiB),
      loops.make(workshop.folder, 32 * MiB),
    ]
    const target = await workshop.serve('target', {
      listeners: [{ protocol: 'nbd', address: 'unix:n.sock' }],
      management: { address: 'unix:m.sock' },
      devices: {
        home: {
          type: 'mirror',
          legs: { left: { type: 'file', path: left }, right: { type: 'file', path: right } },
        },
      },
      exports: { home: { device: 'home' } },
    })
    expect(await take(left)).to.equal(null)
    expect(await take(right)).to.equal(null)
    const detached = await leg('detach', 'home', 'right')
    expect(detached.code, detached.stderr).to.equal(0)
    expect(await take(left)).to.equal(null)
    const mounted = await take(right)
    expect(mounted, 'a detached leg is free').to.not.equal(null)
    const refused = await leg('attach', 'home', 'right')
    expect(refused.code).to.equal(1)
    expect(refused.stderr).to.contain('in use on this machine')
    // A restart finds it in use, and starts without it.
    expect(await target.stop(), target.stderr).to.equal(0)
    await target.start()
    await mounted!.close()
    const attached = await leg('attach', 'home', 'right')
    expect(attached.code, attached.stderr).to.equal(0)
    expect(await take(right)).to.equal(null)
  })

  it('a mounted disk is told of by check, with the place', async () => {
    const disk = loops.make(workshop.folder, 16 * MiB)
    run('mkfs.ext4', '-q', '-F', disk)
    const mount = join(workshop.folder, 'a mount')
    mkdirSync(mount)
    run('mount', disk, mount)
    workshop.later(() => run('umount', mount))
    const devices = { a: { type: 'file', path: disk } }
    workshop.write('target', { devices, exports: { a: { device: 'a' } } })
    const { code, stderr } = await dst(['check', 'target.json'], workshop.folder)
    expect(code).to.equal(2)
    expect(stderr).to.contain(`${disk} is mounted at ${mount}`)
  })

  it('a file on a read-only file system is said to be that, with what serves it', async () => {
    const mount = join(workshop.folder, 'fs')
    mkdirSync(mount)
    run('mount', '-t', 'tmpfs', '-o', 'size=4M', 'none', mount)
    workshop.later(() => run('umount', mount))
    writeFileSync(join(mount, 'a.img'), '')
    truncateSync(join(mount, 'a.img'), MiB)
    run('mount', '-o', 'remount,ro', mount)
    const file = { type: 'file', path: 'fs/a.img' }
    const made = { type: 'file', path: 'fs/b.img', size: '1M', create: true }
    workshop.write('target', { devices: { a: file, b: made }, exports: { a: { device: 'a' } } })
    const { stderr } = await dst(['check', 'target.json'], workshop.folder)
    expect(stderr).to.match(/a\.img cannot be opened for writing: its file system is read-only/)
    expect(stderr).to.contain('"readOnly": true serves it')
    expect(stderr).to.match(/b\.img cannot be made: the file system is read-only/)
    workshop.write('target', {
      devices: { a: { ...file, readOnly: true } },
      exports: { a: { device: 'a' } },
    })
    expect((await dst(['check', 'target.json'], workshop.folder)).code).to.equal(0)
  })
})
