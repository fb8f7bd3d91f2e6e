import { expect } from 'chai'
import fs from 'node:fs/promises'
import path from 'node:path'
import { GiB, KiB, MiB } from '../../../src/base/size.ts'
import { Slab } from '../../../src/base/slab.ts'
import type { Device } from '../../../src/device/device.ts'
import { extentHole, extentRunsMax, extentZero } from '../../../src/device/extents.ts'
import type { FileOptions } from '../../../src/devices/file/file.ts'
import { Flag, Operation, Request } from '../../../src/device/request.ts'
import { fileDevice, removeFolder, temporaryFolder } from '../../support/files.ts'
import { flush, read, submit, write } from '../../support/io.ts'
import { findProgram, runProgram } from '../../support/programs.ts'
import { SeededRandom } from '../../support/seeded.ts'

const size = 16 * MiB

interface Run {
  readonly length: number
  readonly zero: boolean
}

/** What one answer says of the range. */
function ask(device: Device, offset: number, length: number): Promise<Run[]> {
  return new Promise((resolve, reject) => {
    const request = Request.take(Operation.status, offset, length, 0, {
      completed: () => {
        const { lengths, flags } = request.extents
        const runs = lengths.map((each, at) => ({
          length: each,
          zero: (flags[at]! & extentZero) !== 0,
        }))
        const { error } = request
        request.release()
        if (error === null) resolve(runs)
        else reject(error)
      },
    })
    device.submit(request)
  })
}

describe('where a file has data', function () {
  const searched = process.env['PATH']
  let folder: string
  const open: Device[] = []
  beforeEach(async () => {
    folder = await temporaryFolder(true)
  })
  afterEach(async () => {
    process.env['PATH'] = searched
    for (const device of open.splice(0)) await device.close()
    await removeFolder(folder)
  })

  async function start(options: Partial<FileOptions> = {}): Promise<Device> {
    const image = path.join(folder, 'image')
    const device = fileDevice('disk', { path: image, ...options }, new Slab())
    await device.open()
    open.push(device)
    return device
  }

  const make = (bytes = size): Promise<Device> => start({ size: bytes, create: true })

  /** Only these programs are to be found. */
  async function only(...names: string[]): Promise<void> {
    const bin = path.join(folder, 'bin')
    await fs.mkdir(bin)
    for (const name of names) {
      // Some are scripts that look for others: what they find in the end.
      const ask =
        name === 'perl' ? ['-e', 'print $^X'] : ['-c', 'import sys; print(sys.executable)']
      const { stdout } = await runProgram(name, ask)
      await fs.symlink(stdout.trim(), path.join(bin, name))
    }
    process.env['PATH'] = bin
  }

  it('is said as the file system has it, of what nobody flushed as well', async () => {
    const device = await make(GiB)
    expect(await ask(device, 0, GiB)).to.deep.equal([{ length: GiB, zero: true }])
    await write(device, 5 * MiB, Buffer.alloc(128 * KiB, 7))
    expect(await ask(device, 0, 8 * MiB)).to.deep.equal([
      { length: 5 * MiB, zero: true },
      { length: 128 * KiB, zero: false },
      { length: 3 * MiB - 128 * KiB, zero: true },
    ])
    expect(await ask(device, 5 * MiB + 4096, 8192)).to.deep.equal([{ length: 8192, zero: false }])
    await submit(device, Operation.trim, 4 * MiB, 2 * MiB)
    expect(await ask(device, 0, GiB)).to.deep.equal([{ length: GiB, zero: true }])
  })

  it('is asked anew each time, so that what another program writes is data', async () => {
    const device = await make()
    expect((await ask(device, 0, size))[0]!.zero).to.equal(true)
    const other = await fs.open(path.join(folder, 'image'), 'r+')
    await other.write(Buffer.alloc(4096, 1), 0, 4096, 8 * MiB)
    await other.close()
    expect((await ask(device, 8 * MiB, 4096))[0]!.zero).to.equal(false)
  })

  it('never calls zero what reads as something else, whatever is written and trimmed', async () => {
    const random = new SeededRandom(3)
    const device = await make(4 * MiB)
    const { size } = device.facts!
    for (let round = 0; round < 32; round++) {
      const offset = 512 * Math.floor((random.fraction() * size) / 512)
      const length = Math.min(size - offset, 512 * (1 + Math.floor(random.fraction() * 3000)))
      if (round % 4 === 3) await submit(device, Operation.writeZeroes, offset, length)
      else await write(device, offset, Buffer.alloc(length, 1 + round))
      if (round % 7 === 0) await flush(device)
      let at = 0
      while (at < size)
        for (const { length: bytes, zero } of await ask(device, at, size - at)) {
          const zeroes = zero ? Buffer.alloc(bytes) : null
          if (zeroes !== null) expect((await read(device, at, bytes)).equals(zeroes)).to.equal(true)
          at += bytes
        }
    }
  })

  it('is told in parts where it is more than one answer holds', async () => {
    const device = await make(64 * MiB)
    const file = await fs.open(path.join(folder, 'image'), 'r+')
    for (let at = 0; at < 64 * MiB; at += 8 * KiB) await file.write(Buffer.alloc(1, 1), 0, 1, at)
    await file.close()
    const runs = await ask(device, 0, 64 * MiB)
    const covered = runs.reduce((sum, { length }) => sum + length, 0)
    expect(runs).to.have.length(extentRunsMax)
    expect(covered).to.be.below(64 * MiB)
    expect((await ask(device, covered, 4096))[0]!.zero).to.equal(!runs.at(-1)!.zero)
  })

  for (const name of ['perl', 'python3'])
    it(`is found with ${name}`, async function () {
      if (findProgram(name) === null) this.skip()
      const device = await make()
      await write(device, MiB, Buffer.alloc(MiB, 1))
      await only(name)
      const runs = await ask(device, 0, size)
      expect(runs.map(({ length }) => length)).to.deep.equal([MiB, MiB, size - 2 * MiB])
      expect(device.driver.describe()).not.to.have.property('noMap')
    })

  it('is everywhere without a program to ask, but of a file without a single block', async () => {
    const device = await make()
    await only()
    expect(await ask(device, 0, size)).to.deep.equal([{ length: size, zero: true }])
    expect(device.driver.describe()['noMap']).to.include('perl')
    await write(device, MiB, Buffer.alloc(4096, 1))
    expect(await ask(device, 0, size)).to.deep.equal([{ length: size, zero: false }])
    await submit(device, Operation.writeZeroes, 0, 4096)
    expect(await ask(device, 0, 4096)).to.deep.equal([{ length: 4096, zero: false }])
  })

  it('is answered when the program that looks for it dies, and found by the next', async () => {
    const bin = path.join(folder, 'bin')
    await fs.mkdir(bin)
    const dies = path.join(folder, 'dies')
    const real = findProgram('perl')!
    const body = `#!/bin/sh\n[ -e ${dies} ] && exit 1\nexec ${real} "$@"\n`
    await fs.writeFile(path.join(bin, 'perl'), body, { mode: 0o755 })
    process.env['PATH'] = `${bin}:${searched ?? ''}`
    const device = await make()
    await write(device, MiB, Buffer.alloc(4096, 1))
    await fs.writeFile(dies, '')
    expect(await ask(device, 0, MiB)).to.deep.equal([{ length: MiB, zero: false }])
    await fs.rm(dies)
    expect(await ask(device, 0, MiB)).to.deep.equal([{ length: MiB, zero: true }])
  })

  it('is no hole where the space is taken, though it reads as zeroes', async () => {
    const device = await make()
    const flagsOf = async (): Promise<number> =>
      (await submit(device, Operation.status, 8 * MiB, MiB)).flags[0]!
    expect(await flagsOf()).to.equal(extentHole | extentZero)
    const { error } = await submit(device, Operation.writeZeroes, 0, 16 * MiB, Flag.noHole)
    expect(error).to.equal(null)
    expect((await flagsOf()) & extentHole).to.equal(0)
    await device.close()
    open.length = 0
    const again = await start()
    const { flags } = await submit(again, Operation.status, 8 * MiB, MiB)
    expect(flags[0]! & extentHole, 'all of it is allocated').to.equal(0)
  })

  it('is told to many who ask at once, in order', async () => {
    const device = await make()
    await write(device, 8 * MiB, Buffer.alloc(MiB, 1))
    const asked = Array.from({ length: 200 }, (_, at) => ask(device, (at % 16) * MiB, MiB))
    for (const [at, runs] of (await Promise.all(asked)).entries())
      expect(runs).to.deep.equal([{ length: MiB, zero: at % 16 !== 8 }])
  })

  it('is no reason to keep the lock of the file when the target is gone', async () => {
    const first = await make()
    await ask(first, 0, 4096)
    await first.close()
    open.length = 0
    const second = await start()
    expect((await ask(second, 0, size))[0]!.zero).to.equal(true)
  })
})
