import { expect } from 'chai'
import { constants, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import fs from 'node:fs/promises'
import { join } from 'node:path'
import { MiB } from '../../../src/base/size.ts'
import { Slab } from '../../../src/base/slab.ts'
import type { Device } from '../../../src/device/device.ts'
import type { FileOptions } from '../../../src/devices/file/file.ts'
import { rotates } from '../../../src/base/sysfs.ts'
import { fileDevice, removeFolder, temporaryFolder } from '../../support/files.ts'
import { read, write } from '../../support/io.ts'
import { Loops, run } from '../../support/loop.ts'
import { findProgram } from '../../support/programs.ts'

describe('a disk', function () {
  let folder: string
  const loops = new Loops()
  const open: Device[] = []

  before(function () {
    Loops.need(this)
  })
  beforeEach(async () => {
    folder = await temporaryFolder(true)
  })
  afterEach(async () => {
    for (const device of open.splice(0)) await device.close()
    loops.close()
    await removeFolder(folder)
  })

  async function opened(path: string, options: Partial<FileOptions> = {}): Promise<Device> {
    const device = fileDevice('disk', { path, ...options }, new Slab())
    await device.open()
    open.push(device)
    return device
  }

  async function refusal(path: string): Promise<string> {
    return opened(path).then(
      () => 'opened',
      (error: unknown) => `${(error as { code: string }).code} ${(error as Error).message}`,
    )
  }

  /** What a program gets that mounts or formats the disk: it asks the kernel like this. */
  async function taken(path: string): Promise<boolean> {
    try {
      const handle = await fs.open(path, constants.O_RDONLY | constants.O_EXCL)
      await handle.close()
      return false
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'EBUSY'
    }
  }

  it('is kept from everybody else on the machine while it is open, and no longer', async () => {
    const disk = loops.make(folder, 16 * MiB)
    const device = await opened(disk)
    expect(await taken(disk)).to.equal(true)
    if (findProgram('mkfs.ext4') !== null)
      expect(() => run('mkfs.ext4', '-q', '-F', disk)).to.throw(/in use/)
    await write(device, 0, Buffer.alloc(4096, 1))
    await device.close()
    open.length = 0
    expect(await taken(disk)).to.equal(false)
  })

  it('that is in use is refused, and nothing is written to it', async () => {
    const disk = loops.make(folder, 16 * MiB)
    const handle = await fs.open(disk, constants.O_RDONLY | constants.O_EXCL)
    try {
      expect(await refusal(disk)).to.match(/^CLAIMED .* is in use on this machine/)
      // Whoever only reads is in nobody's way.
      expect((await opened(disk, { readOnly: true })).facts!.readOnly).to.equal(true)
    } finally {
      await handle.close()
    }
    expect(await refusal(disk)).to.equal('opened')
  })

  it('that is mounted is refused under all its names', async function () {
    if (findProgram('mkfs.ext4') === null) this.skip()
    const disk = loops.make(folder, 16 * MiB)
    const mount = join(folder, 'mount')
    const name = join(folder, 'by-name')
    mkdirSync(mount)
    symlinkSync(disk, name)
    run('mkfs.ext4', '-q', '-F', disk)
    run('mount', disk, mount)
    try {
      expect(await refusal(disk)).to.match(/^CLAIMED/)
      expect(await refusal(name)).to.match(/^CLAIMED/)
    } finally {
      run('umount', mount)
    }
  })

  it('that nobody claims any more can be mounted, and is not claimed while it is', async () => {
    const disk = loops.make(folder, 16 * MiB)
    const device = await opened(disk, { guardWhenClaimed: true })
    expect(await taken(disk)).to.equal(false)
    await device.driver.claim!(7)
    await device.driver.claim!(8)
    expect(await taken(disk)).to.equal(true)
    await device.driver.claim!(0)
    const handle = await fs.open(disk, constants.O_RDONLY | constants.O_EXCL)
    const failed = await device.driver.claim!(9).catch((error: unknown) => error)
    expect(failed).to.have.property('code', 'CLAIMED')
    await handle.close()
    await device.driver.claim!(9)
    expect(await taken(disk)).to.equal(true)
  })

  it('that is write-protected is offered for reading, and says why', async () => {
    const disk = loops.make(folder, 16 * MiB, '--read-only')
    const device = await opened(disk)
    expect(device.facts!.readOnly).to.equal(true)
    expect(device.state.reason).to.match(/write-protected/)
    expect(device.driver.describe()).to.have.property('writeProtected', true)
    expect(await read(device, 0, 512)).to.deep.equal(Buffer.alloc(512))
    const failed = await write(device, 0, Buffer.alloc(512)).catch((error: unknown) => error)
    expect(failed).to.have.property('code', 'READ_ONLY')
  })
})

describe('what the kernel says of rotating', () => {
  let folder: string
  beforeEach(async () => {
    folder = await temporaryFolder(true)
  })
  afterEach(() => removeFolder(folder))

  function disk(name: string, rotational: string, type?: string): string {
    const place = join(folder, name)
    mkdirSync(join(place, 'queue'), { recursive: true })
    mkdirSync(join(place, 'slaves'))
    writeFileSync(join(place, 'queue/rotational'), rotational)
    if (type !== undefined) {
      mkdirSync(join(place, 'device'))
      writeFileSync(join(place, 'device/type'), type)
    }
    return place
  }

  it('is believed of SCSI and ATA disks, and of volumes and arrays on them', async () => {
    const hard = disk('sda', '1\n', '0\n')
    expect(await rotates(hard)).to.equal(true)
    const volume = disk('dm-0', '1\n')
    symlinkSync(hard, join(volume, 'slaves/sda'))
    expect(await rotates(volume)).to.equal(true)
    mkdirSync(join(hard, 'sda1'))
    writeFileSync(join(hard, 'sda1/partition'), '1\n')
    expect(await rotates(join(hard, 'sda1'))).to.equal(true)
  })

  it('is not of disks whose driver knows nothing of it', async () => {
    expect(await rotates(disk('vda', '1\n'))).to.equal(false)
    expect(await rotates(disk('sdb', '0\n', '0\n'))).to.equal(false)
    const volume = disk('dm-1', '1\n')
    symlinkSync(join(folder, 'vda'), join(volume, 'slaves/vda'))
    expect(await rotates(volume)).to.equal(false)
    // Nor is a loop of them followed for ever.
    symlinkSync(volume, join(volume, 'slaves/dm-1'))
    expect(await rotates(volume)).to.equal(false)
    expect(await rotates(join(folder, 'nothing'))).to.equal(false)
  })
})
