import { expect } from 'chai'
import nodeFs from 'node:fs'
import fs from 'node:fs/promises'
import path from 'node:path'
import { KiB, MiB } from '../../src/base/size.ts'
import type { Device } from '../../src/device/device.ts'
import { FileDriver, type FileOptions } from '../../src/devices/file/file.ts'
import { Flag, Operation } from '../../src/device/request.ts'
import { fileDevice, removeFolder, temporaryFolder } from '../support/files.ts'
import { flush, submit, write } from '../support/io.ts'
import { codeOf, withFs } from '../devices/file/broken-fs.ts'

/** Calls of functions of node:fs that fail, before they do what they always did. */
type Failures = Map<string, string[]>

/** The function, but the next calls fail with the errno that `failures` has for its name. */
function once(name: 'fdatasync' | 'write' | 'writev', failures: Failures): never {
  const original = nodeFs[name] as (...args: unknown[]) => void
  return ((...args: unknown[]) => {
    const code = failures.get(name)?.shift()
    if (code === undefined) original(...args)
    else {
      const callback = args.at(-1) as (error: Error, bytes: number) => void
      setImmediate(callback, Object.assign(new Error(`${code}: on purpose`), { code }), 0)
    }
  }) as never
}

/** Runs `body` while the kernel tells an error of the disk to whoever syncs the file first. */
async function whileTold(failures: Failures, body: () => Promise<void>): Promise<void> {
  const handle = await fs.open('/dev/null')
  const handles = Object.getPrototypeOf(handle) as { sync: () => Promise<void> }
  await handle.close()
  const { sync } = handles
  handles.sync = function (this: unknown) {
    const code = failures.get('fdatasync')?.shift()
    if (code === undefined) return sync.call(this)
    return Promise.reject(Object.assign(new Error(`${code}: on purpose`), { code }))
  }
  try {
    const names = ['fdatasync', 'write', 'writev'] as const
    const replaced = Object.fromEntries(names.map((name) => [name, once(name, failures)]))
    await withFs(replaced, body)
  } finally {
    handles.sync = sync
  }
}

describe('an error that the kernel tells once', () => {
  let folder: string
  let image: string
  const open: Device[] = []
  beforeEach(async () => {
    folder = await temporaryFolder(true)
    image = path.join(folder, 'image')
    await fs.writeFile(image, Buffer.alloc(MiB))
  })
  afterEach(async () => {
    for (const device of open.splice(0)) await device.close()
    await removeFolder(folder)
  })

  async function opened(options: Partial<FileOptions> = {}): Promise<Device> {
    const device = fileDevice('disk', { path: image, ...options })
    open.push(device)
    await device.open()
    return device
  }

  /** Neighbours, so that they are carried out as one. */
  async function forced(device: Device): Promise<readonly string[]> {
    const writes = [0, 1, 2].map((at) =>
      submit(device, Operation.write, at * 4 * KiB, 4 * KiB, Flag.fua, [Buffer.alloc(4 * KiB, 1)]),
    )
    return (await Promise.all(writes)).map(({ error }) => error?.code ?? 'done')
  }

  it('to forced writes that were carried out together is that of a flush', async () => {
    const device = await opened()
    await write(device, 512 * KiB, Buffer.alloc(4 * KiB, 2))
    const { bootId } = device.facts!
    await whileTold(new Map([['writev', ['EIO']]]), async () => {
      expect(await forced(device)).to.deep.equal(['IO', 'IO', 'IO'])
    })
    expect(device.losses).to.equal(1)
    expect(device.facts!.bootId).to.not.equal(bootId)
  })

  it('to forced writes together is asked for again where it may be want of space', async () => {
    const device = await opened()
    await write(device, 512 * KiB, Buffer.alloc(4 * KiB, 2))
    const failures = new Map([
      ['writev', ['ENOSPC']],
      ['fdatasync', ['ENOSPC']],
    ])
    await whileTold(failures, async () => {
      await forced(device)
      expect(failures.get('fdatasync')).to.deep.equal([])
    })
    expect(device.losses).to.equal(1)
    expect(await codeOf(flush(device))).to.equal('NO_SPACE')
  })

  it('is a loss whatever it is called, such as a time-out of NFS', async () => {
    for (const code of ['ETIMEDOUT', 'ENOMEM', 'EINVAL']) {
      const device = await opened()
      await write(device, 512 * KiB, Buffer.alloc(4 * KiB, 2))
      await whileTold(new Map([['writev', [code]]]), async () => {
        expect(await forced(device)).to.deep.equal(['IO', 'IO', 'IO'])
      })
      expect(device.losses).to.equal(1)
      await whileTold(new Map([['fdatasync', [code]]]), async () => {
        expect(await codeOf(flush(device))).to.equal('IO')
      })
      await device.close()
    }
  })

  it('while a file is enlarged by a command is that of a flush', async () => {
    const device = await opened()
    const clean = () => flush(device)
    await write(device, 0, Buffer.alloc(4 * KiB, 1))
    await whileTold(new Map([['fdatasync', ['EIO']]]), async () => {
      const { driver } = device
      if (!(driver instanceof FileDriver)) throw new Error('it is a file')
      const growing = driver.grow(2 * MiB, () => Promise.resolve(), clean)
      expect(await codeOf(growing)).to.equal('IO')
      expect(await codeOf(flush(device)), 'the kernel would say yes now').to.equal('IO')
    })
    expect(device.losses).to.equal(1)
  })

  it('is not taken from the first flush by the opening of a file that is enlarged', async () => {
    await whileTold(new Map([['fdatasync', ['EIO']]]), async () => {
      const options = { size: 2 * MiB, grow: true }
      await opened(options).catch(() => undefined)
      const device = open.at(-1)!.usable ? open.at(-1)! : await opened(options)
      expect(await codeOf(flush(device))).to.equal('IO')
    })
  })
})
