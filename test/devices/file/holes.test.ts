import { expect } from 'chai'
import { once } from 'node:events'
import nodeFs from 'node:fs'
import fs from 'node:fs/promises'
import path from 'node:path'
import { systemClock } from '../../../src/base/clock.ts'
import { systemRandom } from '../../../src/base/random.ts'
import { KiB, MiB } from '../../../src/base/size.ts'
import { Slab } from '../../../src/base/slab.ts'
import { Device } from '../../../src/device/device.ts'
import type { FileOptions } from '../../../src/devices/file/file.ts'
import { Flag, Operation } from '../../../src/device/request.ts'
import { SocketNetwork } from '../../../src/net/sockets.ts'
import { NbdDriver } from '../../../src/nbd/remote.ts'
import { fileDevice, removeFolder, temporaryFolder } from '../../support/files.ts'
import { flush, read, submit, write } from '../../support/io.ts'
import { Workshop } from '../../support/process.ts'
import { findProgram } from '../../support/programs.ts'

const { trim, writeZeroes } = Operation
const size = 16 * MiB

/** A `fallocate` in front of the real one, which is `$real`; probes of the file go past it. */
async function imposter(folder: string, body: string): Promise<string> {
  const bin = path.join(folder, 'bin')
  await fs.mkdir(bin)
  const lines = [
    '#!/bin/sh',
    `real=${findProgram('fallocate')!}`,
    `folder=${folder}`,
    'case "$*" in *"--length 4096 "*) exec $real "$@";; esac',
    body,
    '',
  ]
  await fs.writeFile(path.join(bin, 'fallocate'), lines.join('\n'), { mode: 0o755 })
  return `${bin}:${process.env['PATH'] ?? ''}`
}

/** Resolves when the file is there. */
async function appears(file: string): Promise<void> {
  const watcher = nodeFs.watch(path.dirname(file))
  try {
    while (!nodeFs.existsSync(file)) await once(watcher, 'change')
  } finally {
    watcher.close()
  }
}

const blocksOf = async (file: string): Promise<number> => (await fs.stat(file)).blocks * 512

describe('holes of a file', function () {
  const searched = process.env['PATH']
  let folder: string
  let image: string
  const open: Device[] = []
  beforeEach(async () => {
    folder = await temporaryFolder(true)
    image = path.join(folder, 'image')
  })
  afterEach(async () => {
    process.env['PATH'] = searched
    for (const device of open.splice(0)) await device.close()
    await removeFolder(folder)
  })

  /** A device whose file is full of sevens. */
  async function filled(options: Partial<FileOptions> = {}): Promise<Device> {
    await fs.writeFile(image, Buffer.alloc(size, 7))
    const device = fileDevice('disk', { path: image, ...options }, new Slab())
    await device.open()
    await flush(device)
    open.push(device)
    return device
  }

  const command = async (...words: Parameters<typeof submit>): Promise<string> =>
    (await submit(...words)).error?.code ?? 'success'

  /** Zeroes in the range, sevens around it. */
  async function expectZeroes(device: Device, offset: number, length: number): Promise<void> {
    const expected = Buffer.alloc(size, 7).fill(0, offset, offset + length)
    expect((await read(device, 0, size)).equals(expected)).to.equal(true)
  }

  for (const direct of [false, true])
    it(`gives the space of what is trimmed back, ${direct ? 'direct' : 'buffered'}`, async () => {
      const device = await filled({ direct })
      expect(device.facts).to.include({ trim: 'native', writeZeroes: 'native', fastZero: true })
      const before = await blocksOf(image)
      expect(await command(device, trim, MiB, 8 * MiB)).to.equal('success')
      expect(await blocksOf(image)).to.equal(before - 8 * MiB)
      await expectZeroes(device, MiB, 8 * MiB)
    })

  it('trims what is no whole block of the file system', async () => {
    const device = await filled()
    expect(await command(device, trim, 1001, 5 * MiB + 7)).to.equal('success')
    await expectZeroes(device, 1001, 5 * MiB + 7)
  })

  it('zeroes with a hole, without one, and by writing what is short', async () => {
    const device = await filled()
    const before = await blocksOf(image)
    expect(await command(device, writeZeroes, 0, 4 * MiB, Flag.noHole)).to.equal('success')
    expect(await blocksOf(image), 'no hole').to.equal(before)
    expect(await command(device, writeZeroes, 4 * MiB, 4 * MiB, Flag.fastZero)).to.equal('success')
    expect(await blocksOf(image), 'a hole').to.equal(before - 4 * MiB)
    expect(await command(device, writeZeroes, 8 * MiB, 255 * KiB)).to.equal('success')
    await expectZeroes(device, 0, 8 * MiB + 255 * KiB)
    expect(device.driver.describe()).to.include({ holesPunched: 2 })
  })

  it('carries out neighbours that wait in line together', async () => {
    const device = await filled()
    const all = Array.from({ length: 16 }, (_, at) => command(device, trim, at * MiB, MiB))
    expect(new Set(await Promise.all(all))).to.deep.equal(new Set(['success']))
    expect(device.driver.describe()).to.include({ holesPunched: 2, holesMerged: 14 })
    await expectZeroes(device, 0, size)
  })

  it('has a hole on stable storage where that is asked for', async () => {
    const device = await filled()
    const { fdatasync } = nodeFs
    let syncs = 0
    nodeFs.fdatasync = ((fd: number, done: nodeFs.NoParamCallback) => {
      syncs++
      fdatasync(fd, done)
    }) as typeof fdatasync
    try {
      expect(await command(device, trim, 0, MiB)).to.equal('success')
      expect(syncs).to.equal(0)
      expect(await command(device, trim, 0, MiB, Flag.fua)).to.equal('success')
      expect(await command(device, writeZeroes, 0, MiB, Flag.fua)).to.equal('success')
      expect(syncs).to.equal(2)
    } finally {
      nodeFs.fdatasync = fdatasync
    }
  })

  it('can be opened again as soon as it is closed', async () => {
    const device = await filled()
    expect(await command(device, trim, 0, MiB)).to.equal('success')
    await device.close()
    const again = fileDevice('disk', { path: image }, new Slab())
    await again.open()
    open.push(again)
  })

  it('refuses trim and writes zeroes where there is no program for holes', async () => {
    const bin = path.join(folder, 'bin')
    await fs.mkdir(bin)
    await fs.symlink(findProgram('flock')!, path.join(bin, 'flock'))
    process.env['PATH'] = bin
    const device = await filled()
    expect(device.facts).to.include({ trim: 'none', writeZeroes: 'emulated', fastZero: false })
    expect(device.driver.describe()['noHoles']).to.match(/fallocate/)
    expect(await command(device, writeZeroes, MiB, MiB)).to.equal('success')
    await expectZeroes(device, MiB, MiB)
  })

  it('does without when the file system turns out to have none', async () => {
    const said = 'fallocate: fallocate failed: keep size mode is unsupported'
    process.env['PATH'] = await imposter(folder, `echo '${said}' >&2; exit 1`)
    const device = await filled()
    const facts: string[] = []
    device.watch(({ facts: now }) => facts.push(now!.trim))
    const fast = command(device, writeZeroes, 0, MiB, Flag.fastZero | Flag.noHole)
    const kept = command(device, writeZeroes, MiB, MiB, Flag.noHole)
    expect(await Promise.all([fast, kept])).to.deep.equal(['UNSUPPORTED', 'success'])
    expect(device.facts!.trim, 'only the zeroes without holes').to.equal('native')
    const trimmed = command(device, trim, 0, MiB)
    const zeroed = command(device, writeZeroes, 2 * MiB, MiB)
    expect(await Promise.all([trimmed, zeroed])).to.deep.equal(['UNSUPPORTED', 'success'])
    expect(facts).to.deep.equal(['none'])
    expect(device.facts).to.include({ writeZeroes: 'emulated', fastZero: false })
    await expectZeroes(device, MiB, 2 * MiB)
  })

  it('says when the disk is full, and goes on', async () => {
    const said = 'fallocate: fallocate failed: No space left on device'
    const body = `test -e $folder/full || exec $real "$@"; echo '${said}' >&2; exit 1`
    process.env['PATH'] = await imposter(folder, body)
    const device = await filled()
    await fs.writeFile(path.join(folder, 'full'), '')
    expect(await command(device, writeZeroes, 0, MiB, Flag.noHole)).to.equal('NO_SPACE')
    await fs.unlink(path.join(folder, 'full'))
    expect(await command(device, writeZeroes, 0, MiB, Flag.noHole)).to.equal('success')
    await expectZeroes(device, 0, MiB)
  })

  it('answers for no hole that may still come, when the helper is killed', async () => {
    const body = 'kill -9 $PPID; sleep 0.5; $real "$@"; touch $folder/ended'
    process.env['PATH'] = await imposter(folder, body)
    const device = await filled()
    const first = command(device, writeZeroes, 0, MiB)
    const inLine = command(device, writeZeroes, 4 * MiB, MiB)
    const trimmed = command(device, trim, 8 * MiB, MiB)
    expect(await first).to.equal('success')
    await write(device, 0, Buffer.alloc(MiB, 7))
    await appears(path.join(folder, 'ended'))
    expect(await inLine).to.equal('success')
    expect(await trimmed).to.equal('UNSUPPORTED')
    expect(device.facts).to.include({ trim: 'none', writeZeroes: 'emulated' })
    await expectZeroes(device, 4 * MiB, MiB)
  })
})

describe('holes of a served file', function () {
  const searched = process.env['PATH']
  let workshop: Workshop
  beforeEach(() => (workshop = new Workshop()))
  afterEach(async () => {
    process.env['PATH'] = searched
    await workshop.close()
  })

  const file = (name: string) => ({ type: 'file', path: name, size: '16M', create: true })
  const serve = (device: object) =>
    workshop.serve('target', {
      listeners: [{ protocol: 'nbd', address: 'unix:nbd.sock' }],
      devices: { disk: device },
      exports: { disk: { device: 'disk' } },
    })

  async function client(): Promise<Device> {
    const address = { kind: 'unix', path: path.join(workshop.folder, 'nbd.sock') } as const
    const network = new SocketNetwork()
    const world = { network, slab: new Slab(), clock: systemClock, random: systemRandom }
    const driver = new NbdDriver({ address, name: 'disk', hold: 0 }, world)
    const device = new Device('client', driver, systemClock)
    await device.open()
    workshop.later(() => device.close())
    return device
  }

  it('are punched in all legs of a mirror that is trimmed', async () => {
    await serve({ type: 'mirror', legs: { a: file('a'), b: file('b') } })
    const device = await client()
    await write(device, 0, Buffer.alloc(8 * MiB, 7))
    await flush(device)
    const blocks = () =>
      Promise.all(['a', 'b'].map((name) => blocksOf(path.join(workshop.folder, name))))
    const before = await blocks()
    expect(device.facts!.trim).to.equal('native')
    expect((await submit(device, trim, MiB, 4 * MiB)).error).to.equal(null)
    expect(await blocks()).to.deep.equal(before.map((bytes) => bytes - 4 * MiB))
    expect((await read(device, MiB, 4 * MiB)).equals(Buffer.alloc(4 * MiB))).to.equal(true)
  })

  it('hit nothing that is written after the target was killed and started again', async () => {
    const { folder } = workshop
    const body = 'touch $folder/began; sleep 1.5; $real "$@"; touch $folder/ended'
    process.env['PATH'] = await imposter(folder, body)
    const target = await serve(file('image'))
    const before = await client()
    await write(before, 0, Buffer.alloc(MiB, 7))
    const trimmed = submit(before, trim, 0, MiB)
    await appears(path.join(folder, 'began'))
    await target.stop('SIGKILL')
    expect((await trimmed).error).to.not.equal(null)
    await target.start()
    const after = await client()
    await write(after, 0, Buffer.alloc(MiB, 8))
    await appears(path.join(folder, 'ended'))
    expect((await read(after, 0, MiB)).equals(Buffer.alloc(MiB, 8))).to.equal(true)
  })
})
