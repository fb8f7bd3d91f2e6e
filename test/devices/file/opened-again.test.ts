import { expect } from 'chai'
import childProcess from 'node:child_process'
import fs from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import path from 'node:path'
import { systemClock } from '../../../src/base/clock.ts'
import { MiB } from '../../../src/base/size.ts'
import { Slab } from '../../../src/base/slab.ts'
import { Device } from '../../../src/device/device.ts'
import { FileDriver } from '../../../src/devices/file/file.ts'
import { removeFolder, temporaryFolder } from '../../support/files.ts'
import { flush } from '../../support/io.ts'
import { codeOf, failing, withFs } from './broken-fs.ts'

/** Runs `body` while the program cannot be started, for want of memory or processes. */
async function without(program: string, body: () => Promise<void>): Promise<void> {
  const { spawn } = childProcess
  const replaced = (name: string, ...others: unknown[]): unknown => {
    if (name === program) throw Object.assign(new Error('on purpose'), { code: 'EAGAIN' })
    return (spawn as (...args: unknown[]) => unknown)(name, ...others)
  }
  const put = (function_: unknown): void => {
    Object.assign(childProcess, { spawn: function_ })
    syncBuiltinESMExports()
  }
  put(replaced)
  try {
    await body()
  } finally {
    put(spawn)
  }
}

describe('a file that is waited for', () => {
  let folder: string
  let driver: FileDriver
  let device: Device
  beforeEach(async () => {
    folder = await temporaryFolder(true)
    const image = path.join(folder, 'image')
    await fs.writeFile(image, Buffer.alloc(MiB))
    driver = new FileDriver({ path: image, retryMs: 600_000 }, new Slab(), systemClock)
    device = new Device('disk', driver, systemClock)
  })
  afterEach(async () => {
    await device.close()
    await removeFolder(folder)
  })

  it('is not kept from itself by a try that failed after the file was locked', async () => {
    await without('fallocate', () => device.open())
    expect(device.usable).to.equal(false)
    await driver.tryNow()
    expect(device.state).to.include({ word: 'online', reason: '' })
  })

  it('is not removed where a try that failed had made another one', async () => {
    const image = path.join(folder, 'other')
    const options = { path: image, size: MiB, create: true, retryMs: 600_000 }
    const other = new FileDriver(options, new Slab(), systemClock)
    const opened = new Device('other', other, systemClock)
    await without('fallocate', () => opened.open())
    // Its file system is mounted meanwhile, or it is put back.
    await fs.writeFile(path.join(folder, 'kept'), Buffer.alloc(MiB, 1))
    await fs.rename(path.join(folder, 'kept'), image)
    await other.tryNow()
    expect(opened.state.word).to.equal('online')
    await opened.close()
    await other.unmake()
    expect((await fs.readFile(image))[0]).to.equal(1)
  })

  it('stays degraded once a flush failed, also when it grows', async () => {
    await device.open()
    await withFs({ fdatasync: failing('EIO') }, async () => {
      expect(await codeOf(flush(device))).to.equal('IO')
    })
    await fs.truncate(path.join(folder, 'image'), 2 * MiB)
    await driver.look()
    expect(device.facts!.size).to.equal(2 * MiB)
    expect(device.state.word).to.equal('degraded')
    expect(device.state.reason).to.include('EIO')
  })
})
