import { expect } from 'chai'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import nodeFs from 'node:fs'
import fs from 'node:fs/promises'
import path from 'node:path'
import { KiB, MiB } from '../../../src/base/size.ts'
import { Slab } from '../../../src/base/slab.ts'
import type { Device } from '../../../src/device/device.ts'
import type { FileOptions } from '../../../src/devices/file/file.ts'
import { Flag, Operation } from '../../../src/device/request.ts'
import { fileDevice, removeFolder, temporaryFolder } from '../../support/files.ts'
import { flush, read, submit, write } from '../../support/io.ts'
import { codeOf, failing, throwing, withFs } from './broken-fs.ts'
import { SeededRandom } from '../../support/seeded.ts'

const random = new SeededRandom(1)

describe('a file', () => {
  let folder: string
  let image: string
  const open: Device[] = []
  beforeEach(async () => {
    folder = await temporaryFolder(true)
    image = path.join(folder, 'image')
  })
  afterEach(async () => {
    for (const device of open.splice(0)) await device.close()
    await removeFolder(folder)
  })

  async function opened(options: Partial<FileOptions>, slab = new Slab()): Promise<Device> {
    const device = fileDevice('disk', { path: image, ...options }, slab)
    await device.open()
    open.push(device)
    return device
  }

  describe('when it is opened', () => {
    it('is created sparse, with the folders above it', async () => {
      image = path.join(folder, 'some/where/image')
      const device = await opened({ size: 100 * MiB, create: true })
      expect(device.facts!.size).to.equal(100 * MiB)
      const { size, blocks } = await fs.stat(image)
      expect([size, blocks]).to.deep.equal([100 * MiB, 0])
    })

    it('is no larger than numbers go, nor becomes so', async function () {
      // Few file systems have room for such names of nothing.
      const large = await fs.mkdtemp('/dev/shm/dst-large-').catch(() => this.skip())
      try {
        image = path.join(large, 'image')
        const truncate = (size: string) => spawnSync('truncate', ['-s', size, image]).status === 0
        if (!truncate('9P')) this.skip()
        expect(await codeOf(opened({}))).to.equal('CONFIG')
        truncate('9223372036854775807')
        expect(await codeOf(opened({ readOnly: true }))).to.equal('CONFIG')
        truncate('1M')
        const device = await opened({})
        truncate('9P')
        await device.driver.look!()
        expect(device.facts!.size).to.equal(MiB)
        await open.pop()!.close()
      } finally {
        await removeFolder(large)
      }
    })

    it('has the size it has, unless another is asked for', async () => {
      await fs.writeFile(image, Buffer.alloc(5000, 7))
      expect((await opened({})).facts!.size).to.equal(5000)
      await open.pop()!.close()
      for (const size of [4999, 5001, 8192])
        expect(await codeOf(opened({ size, create: true })), `${size}`).to.equal('CONFIG')
      expect(await codeOf(opened({ size: 4999, grow: true })), 'never cut').to.equal('CONFIG')
      const grown = await opened({ size: 8192, grow: true })
      const expected = Buffer.alloc(8192)
      expected.fill(7, 0, 5000)
      expect((await read(grown, 0, 8192)).equals(expected)).to.equal(true)
    })

    it('says what is wrong with it', async () => {
      expect(await codeOf(opened({})), 'not there').to.equal('CONFIG')
      expect(await codeOf(opened({ create: true })), 'no size').to.equal('CONFIG')
      expect(await codeOf(opened({ path: folder })), 'a folder').to.not.equal('success')
      expect(await codeOf(opened({ path: '/dev/null' })), 'a character device').to.equal('CONFIG')
      await fs.writeFile(image, '')
      expect(await codeOf(opened({})), 'empty').to.equal('CONFIG')
      expect(nodeFs.readdirSync(folder)).to.deep.equal(['image'])
    })

    it('has one writer, in this process and beyond', async () => {
      await opened({ size: MiB, create: true })
      expect(await codeOf(opened({}))).to.equal('CLAIMED')
      const link = path.join(folder, 'link')
      await fs.link(image, link)
      expect(await codeOf(opened({ path: link })), 'by another name').to.equal('CLAIMED')
      const other = () => spawnSync('flock', ['-n', image, 'true']).status
      expect(other(), 'another process').to.equal(1)
      await opened({ readOnly: true })
      await open.pop()!.close()
      await open.pop()!.close()
      expect(other(), 'free after it was closed').to.equal(0)
      await opened({})
    })

    it('waits a moment for a lock: the last child of a target that died may have it', async () => {
      await fs.writeFile(image, 'content')
      const holder = spawn('flock', [image, 'sh', '-c', 'echo locked; sleep 1'])
      await once(holder.stdout, 'data')
      await opened({})
    })

    it('can be read-only', async () => {
      await fs.writeFile(image, 'content', { mode: 0o400 })
      const device = await opened({ readOnly: true })
      expect((await read(device, 0, 7)).toString()).to.equal('content')
      expect(await codeOf(write(device, 0, Buffer.from('x')))).to.equal('READ_ONLY')
    })

    it('is the same file when it is opened again, and not when it was replaced', async () => {
      const first = await opened({ size: MiB, create: true })
      const { identity, bootId } = first.facts!
      await first.close()
      const second = await opened({})
      expect(second.facts).to.include({ identity, bootId })
      await second.close()
      await fs.rename(image, `${image}.old`)
      const replaced = await opened({ size: MiB, create: true })
      expect(replaced.facts!.identity).to.not.equal(identity)
    })
  })

  it('has a stamp that changes with its content only', async () => {
    const device = await opened({ size: MiB, create: true })
    await write(device, 0, random.bytes(100))
    await flush(device)
    const before = await device.driver.stamp!()
    await read(device, 0, 100)
    expect(await device.driver.stamp!()).to.equal(before)
    // The kernel's time stamps move a few milliseconds at a time.
    while ((await device.driver.stamp!()) === before) await write(device, 0, random.bytes(100))
  })

  it('fails for good when it is cut short underneath', async () => {
    const device = await opened({ size: MiB, create: true })
    await write(device, 0, random.bytes(MiB))
    await fs.truncate(image, 10_000)
    const outcome = await submit(device, Operation.read, 500_000, 4096)
    expect(outcome.error?.code).to.equal('IO')
    expect(outcome.error?.message).to.contain('it ends at byte 10000')
    expect(outcome.error?.device).to.equal('disk')
    expect(device.state.word).to.equal('failed')
    expect(device.state.reason).to.contain('cut short')
    await fs.truncate(image, MiB)
    const again = await submit(device, Operation.read, 500_000, 4096)
    expect(again.error?.code, 'zeroes are not what was written').to.equal('IO')
  })

  it('finds by a flush that it was cut short', async () => {
    const device = await opened({ size: MiB, create: true })
    await fs.truncate(image, 10_000)
    expect(await codeOf(flush(device))).to.equal('IO')
    expect(device.state.word).to.equal('failed')
  })

  it('notices by a flush that it grew, unless its size is configured', async () => {
    await fs.writeFile(image, Buffer.alloc(MiB, 1))
    const device = await opened({})
    await fs.truncate(image, 2 * MiB)
    await flush(device)
    expect(device.facts!.size).to.equal(2 * MiB)
    await write(device, 2 * MiB - 1, Buffer.from('x'))
    await fs.truncate(image, MiB)
    expect(await codeOf(flush(device)), 'the new size counts').to.equal('IO')
    await device.close()
    const fixed = await opened({ size: MiB })
    await fs.truncate(image, 2 * MiB)
    await flush(fixed)
    expect(fixed.facts!.size).to.equal(MiB)
  })

  it('is not flushed any more once a flush failed', async () => {
    const device = await opened({ size: MiB, create: true })
    await write(device, 0, Buffer.from('x'))
    await withFs({ fdatasync: failing('EIO') }, async () => {
      expect(await codeOf(flush(device))).to.equal('IO')
    })
    expect(await codeOf(flush(device)), 'the kernel would say yes now').to.equal('IO')
    expect(device.state.word).to.equal('degraded')
    await device.close()
    await flush(await opened({}))
  })

  it('answers flushes that wait together with one that started after them', async () => {
    const device = await opened({ size: MiB, create: true })
    let syncs = 0
    const fdatasync = nodeFs.fdatasync
    const counted = ((fd: number, callback: nodeFs.NoParamCallback) => {
      syncs++
      fdatasync(fd, callback)
    }) as typeof nodeFs.fdatasync
    await withFs({ fdatasync: counted }, async () => {
      const first = flush(device)
      await Promise.all([first, flush(device), flush(device), flush(device)])
    })
    expect(syncs).to.equal(2)
  })

  it('says when the disk is full, and goes on', async () => {
    const slab = new Slab()
    const device = await opened({ size: MiB, create: true }, slab)
    const full = failing('ENOSPC')
    const fullNow = throwing('ENOSPC')
    const replaced = { write: full, writev: full, writeSync: fullNow, writevSync: fullNow }
    await withFs(replaced, async () => {
      const large = Array.from({ length: 3 }, () => random.bytes(300_000))
      expect(await codeOf(write(device, 0, Buffer.concat(large)))).to.equal('NO_SPACE')
      const writes = [0, 1, 2, 3, 4, 5, 6, 7].map((at) =>
        codeOf(write(device, at * 4096, random.bytes(4096))),
      )
      expect(new Set(await Promise.all(writes))).to.deep.equal(new Set(['NO_SPACE']))
    })
    expect(slab.bytesHeld).to.equal(0)
    await write(device, 0, random.bytes(4096))
  })

  describe('while a write is under way', () => {
    const length = 64 * KiB
    let device: Device
    /** Places and pieces of the calls that were held back, and what lets them go on. */
    let calls: { readonly at: number; readonly pieces: number; readonly go: () => void }[]
    let called: () => void
    const held = {
      write: (...args: unknown[]) => hold(args, args[4] as number, 1, nodeWrite),
      writev: (...args: unknown[]) =>
        hold(args, args[2] as number, (args[1] as Buffer[]).length, nodeWritev),
    } as unknown as Partial<typeof nodeFs>
    const { write: nodeWrite, writev: nodeWritev } = nodeFs

    function hold(args: unknown[], at: number, pieces: number, call: unknown): void {
      calls.push({ at, pieces, go: () => (call as (...args: unknown[]) => void)(...args) })
      called()
    }

    /** Resolves once `count` calls were made. */
    async function reached(count: number): Promise<void> {
      while (calls.length < count)
        await new Promise<void>((resolve) => {
          called = resolve
        })
    }

    /** Writes pieces number `from` to `to - 1` of `data` to where they belong. */
    function writeAll(data: Buffer, from: number, to: number): Promise<unknown> {
      return Promise.all(
        Array.from({ length: to - from }, (_, at) => {
          const start = (from + at) * length
          return write(device, start, data.subarray(start, start + length))
        }),
      )
    }

    beforeEach(async () => {
      calls = []
      called = () => undefined
      device = await opened({ size: 4 * MiB, create: true })
    })

    it('waits with what continues it, and with nothing else', async () => {
      const data = random.bytes(20 * length)
      await withFs(held, async () => {
        const first = writeAll(data, 0, 4)
        await reached(1)
        const rest = writeAll(data, 4, 20)
        const forced = write(device, 20 * length, data.subarray(0, length), Flag.fua)
        const elsewhere = write(device, 40 * length, data.subarray(0, length))
        await reached(3)
        calls[0]!.go()
        await first
        await reached(4)
        expect(calls.map(({ at, pieces }) => [at / length, pieces])).to.deep.equal([
          [0, 4],
          [20, 1],
          [40, 1],
          [4, 16],
        ])
        for (const { go } of calls.slice(1)) go()
        await Promise.all([rest, forced, elsewhere])
      })
      await write(device, 20 * length, data.subarray(0, length))
      expect((await read(device, 0, data.length)).equals(data)).to.equal(true)
    })

    it('carries out by themselves those that failed together, while more continues', async () => {
      const data = random.bytes(30 * length)
      await withFs(held, async () => {
        const first = writeAll(data, 0, 4)
        await reached(1)
        const rest = writeAll(data, 4, 30)
        const full = (...args: unknown[]): void => {
          Object.assign(nodeFs, { writev: held.writev })
          ;(failing('ENOSPC') as (...args: unknown[]) => void)(...args)
        }
        Object.assign(nodeFs, { writev: full })
        calls[0]!.go()
        await first
        await reached(18)
        const places = calls.slice(1).map(({ at, pieces }) => [at / length, pieces])
        const alone = Array.from({ length: 16 }, (_, at) => [4 + at, 1])
        expect(places).to.have.deep.members([...alone, [20, 10]])
        for (const { go } of calls.slice(1)) go()
        await rest
      })
      expect((await read(device, 0, data.length)).equals(data)).to.equal(true)
    })

    it('waits for none that is as short as what continues it', async () => {
      const data = random.bytes(2 * length)
      await withFs(held, async () => {
        const first = writeAll(data, 0, 1)
        await reached(1)
        const second = writeAll(data, 1, 2)
        await reached(2)
        for (const { go } of calls) go()
        await Promise.all([first, second])
      })
    })
  })

  it('fails only the bad one of neighbours that were read together', async () => {
    const slab = new Slab()
    const device = await opened({ size: MiB, create: true, direct: true }, slab)
    const length = 64 * KiB
    const data = random.bytes(11 * length)
    await write(device, 0, data)
    const bad = 7 * length
    const original = nodeFs.read
    const broken = ((...args: unknown[]) => {
      const [, , , count, position] = args as [number, Buffer, number, number, number]
      if (position <= bad && bad < position + count)
        (failing('EIO') as (...args: unknown[]) => void)(...args)
      else (original as (...args: unknown[]) => void)(...args)
    }) as unknown as typeof nodeFs.read
    await withFs({ read: broken }, async () => {
      const reads = Array.from({ length: 11 }, (_, at) =>
        submit(device, Operation.read, at * length, length),
      )
      for (const [at, outcome] of (await Promise.all(reads)).entries()) {
        expect(outcome.error?.code, `read ${at}`).to.equal(at === 7 ? 'IO' : undefined)
        const expected = data.subarray(at * length, (at + 1) * length)
        if (at !== 7) expect(outcome.data.equals(expected)).to.equal(true)
      }
    })
    expect(slab.bytesHeld).to.equal(0)
  })

  it('reads a long range in steps, and hands it to a thread when they are slow', async () => {
    const bytes = random.bytes(MiB)
    await fs.writeFile(image, bytes)
    const { readSync } = nodeFs
    const steps: number[] = []
    let slowMs = 0
    const timed = ((fd: number, into: Buffer, at: number, length: number, from: number) => {
      steps.push(length)
      for (const until = performance.now() + slowMs; performance.now() < until;);
      return readSync(fd, into, at, length, from)
    }) as typeof nodeFs.readSync
    const device = await opened({})
    const readWith = async (ms: number): Promise<number> => {
      slowMs = ms
      steps.length = 0
      expect((await read(device, 0, MiB)).equals(bytes)).to.equal(true)
      return steps.length
    }
    await withFs({ readSync: timed }, async () => {
      // What is slow by itself, being new or interrupted, makes it wait; it comes back.
      let slowSteps = 0
      while (slowSteps === 0) {
        while ((await readWith(0)) < 8);
        expect(steps).to.deep.equal(new Array(8).fill(128 * KiB))
        slowSteps = await readWith(5)
      }
      expect(slowSteps, 'the first could be the fault of another process').to.be.at.most(2)
      expect(device.driver.describe()['handedOver']).to.be.above(0)
    })
  })

  it('goes on where the system reads or writes less than asked', async () => {
    const device = await opened({ size: MiB, create: true })
    const data = random.bytes(300_000)
    const pieces = [data.subarray(0, 100_001), data.subarray(100_001, 100_002)]
    pieces.push(data.subarray(100_002))
    const some = (length: number): number => Math.min(length, 70_000)
    const { read: fullRead, write: fullWrite, readSync, writeSync } = nodeFs
    const short = {
      read: ((fd: number, bytes: Buffer, at: number, length: number, from: number, done: never) =>
        fullRead(fd, bytes, at, some(length), from, done)) as typeof nodeFs.read,
      readSync: ((fd: number, bytes: Buffer, at: number, length: number, from: number) =>
        readSync(fd, bytes, at, some(length), from)) as typeof nodeFs.readSync,
      write: ((fd: number, bytes: Buffer, at: number, length: number, from: number, done: never) =>
        fullWrite(fd, bytes, at, some(length), from, done)) as typeof nodeFs.write,
      writeSync: ((fd: number, bytes: Buffer, at: number, length: number, from: number) =>
        writeSync(fd, bytes, at, some(length), from)) as typeof nodeFs.writeSync,
      writev: ((fd: number, [first]: Buffer[], from: number, done: never) =>
        fullWrite(fd, first!, 0, some(first!.length), from, done)) as never,
      writevSync: ((fd: number, [first]: Buffer[], from: number) =>
        writeSync(fd, first!, 0, some(first!.length), from)) as never,
    }
    await withFs(short, async () => {
      for (const length of [data.length, 100_002]) {
        const expected = data.subarray(0, length)
        const parts = length === data.length ? pieces : pieces.slice(0, 2)
        const outcome = await submit(device, Operation.write, length, length, 0, parts)
        expect(outcome.error).to.equal(null)
        expect((await read(device, length, length)).equals(expected)).to.equal(true)
      }
    })
  })

  it('forces unit access without flushing what others wrote', async () => {
    const device = await opened({ size: MiB, create: true })
    await withFs({ fdatasync: failing('EIO') }, async () => {
      await write(device, 0, Buffer.from('forced'), Flag.fua)
    })
    expect((await read(device, 0, 6)).toString()).to.equal('forced')
  })
})
