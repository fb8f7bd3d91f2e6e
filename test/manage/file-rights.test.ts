import { expect } from 'chai'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { checkConfig } from '../../src/config/config.ts'
import { TargetManager } from '../../src/manage/commands.ts'
import { FileRights } from '../../src/manage/file-rights.ts'

describe('files that commands may use', () => {
  let folder: string
  beforeEach(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'dst-rights-')))
    mkdirSync(join(folder, 'images/deep'), { recursive: true })
    mkdirSync(join(folder, 'other'))
    writeFileSync(join(folder, 'images/left.img'), Buffer.alloc(4096))
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  const tcp = { address: '127.0.0.1:0' }
  const unix = { address: 'unix:m.sock' }

  function rights(more: object): FileRights {
    const devices = { left: { type: 'file', path: 'images/left.img' } }
    return new FileRights(checkConfig({ devices, ...more }, folder).config)
  }

  function may(all: FileRights, path: string): boolean {
    return all.refusal({ type: 'file', path: join(folder, path) }) === null
  }

  it('are all, where the target’s own user alone gives commands', () => {
    expect(may(rights({ management: unix }), 'other/x.img')).to.equal(true)
    expect(may(rights({ management: { ...unix, mode: '0600' } }), 'other/x.img')).to.equal(true)
  })

  it('lie beside those of the configuration, where others can give commands', () => {
    for (const management of [tcp, { ...unix, mode: '0660' }, { ...unix, group: 'kvm' }]) {
      const all = rights({ management })
      expect(may(all, 'images/right.img')).to.equal(true)
      expect(may(all, 'images/deep/right.img')).to.equal(true)
      for (const path of ['other/x.img', 'x.img', 'images', 'images/../other/x', '../x'])
        expect(may(all, path), path).to.equal(false)
    }
  })

  it('are not reached by a link, nor as a part of something', () => {
    const all = rights({ management: tcp })
    symlinkSync(join(folder, 'other'), join(folder, 'images/link'))
    symlinkSync(join(folder, 'other/victim'), join(folder, 'images/file'))
    writeFileSync(join(folder, 'other/victim'), 'precious')
    expect(may(all, 'images/link/x.img')).to.equal(false)
    expect(may(all, 'images/file')).to.equal(false)
    const part = { type: 'file', path: join(folder, 'other/x.img') }
    for (const device of [
      { type: 'linear', parts: [{ type: 'memory', size: 1 }, part] },
      { type: 'log', device: part },
      { type: 'mirror', legs: { a: { device: part, readLast: true }, b: part } },
      // A kind of device that comes later may have its children anywhere.
      { type: 'stripe', over: [[{ one: part }]] },
    ])
      expect(all.refusal(device), device.type).to.contain('"files": {"allow"')
    expect(all.refusal({ type: 'memory', size: 1 })).to.equal(null)
    expect(all.refusal('left')).to.equal(null)
  })

  it('may have paths of thousands of steps that lead nowhere', () => {
    const all = rights({ management: tcp })
    const path = '/a'.repeat(30_000)
    expect(all.refusal({ type: 'file', path })).to.contain('"files": {"allow"')
    expect(all.refusal({ type: 'nbd', uri: `nbd+unix:///x?socket=${path}` })).to.be.a('string')
    expect(may(all, `images${path}`)).to.equal(true)
  })

  it('may lie thousands of folders deep', () => {
    const before = process.cpuUsage()
    const all = rights({ management: tcp })
    const deep = 'images' + '/a'.repeat(1200)
    mkdirSync(join(folder, deep), { recursive: true })
    symlinkSync(join(folder, 'other'), join(folder, deep, 'l'))
    expect(may(all, `${deep}/right.img`)).to.equal(true)
    expect(may(all, `${deep}/l/right.img`)).to.equal(false)
    // Each folder looked at from the top takes a minute of the processor.
    const { user, system } = process.cpuUsage(before)
    expect(user + system).to.be.below(20e6)
    // Node's own way to remove folders does not get so deep.
    execFileSync('rm', ['-r', join(folder, 'images/a')])
  })

  it('are sockets as well, and whatever else a device looks at', () => {
    const all = rights({ management: tcp })
    const error = (place: string) => ({
      type: 'error',
      device: { type: 'memory', size: 1 },
      whileFileExists: join(folder, place),
    })
    const at = (place: string, type: string, scheme: string) => {
      const uri = `${scheme}+unix:///home?socket=${join(folder, place)}`
      return { type: 'linear', parts: [{ type, uri }] }
    }
    for (const [place, allowed] of [
      ['images/x', true],
      ['other/x', false],
    ] as const)
      for (const device of [error(place), at(place, 'remote', 'dst'), at(place, 'nbd', 'nbd')])
        expect(all.refusal(device) === null, JSON.stringify(device)).to.equal(allowed)
    expect(all.refusal({ type: 'remote', uri: 'dst://10.0.0.2/home' })).to.equal(null)
  })

  it('are those of keys as well; a key of a program is refused', () => {
    const all = rights({ management: tcp })
    const key = (text: string) => all.refusal({ type: 'crypt', device: 'left', key: text })
    expect(key(`file:${join(folder, 'images/key')}`)).to.equal(null)
    expect(key('credential:disk')).to.equal(null)
    expect(key(`file:${join(folder, 'other/key')}`)).to.include('other/key')
    expect(key('command:/bin/touch x')).to.include('/bin/touch')
    // Where the target's own user alone gives commands, that user may run the program anyway.
    const own = rights({ management: unix })
    expect(own.refusal({ type: 'crypt', device: 'left', key: 'command:/bin/touch x' })).to.equal(
      null,
    )
  })

  it('are not looked at otherwise: nobody learns what is there', async () => {
    const devices = { left: { type: 'file', path: 'images/left.img' } }
    const { config } = checkConfig({ devices, management: tcp }, folder)
    const manager = new TargetManager({ config } as never, 'test')
    writeFileSync(join(folder, 'other/secret'), 'precious')
    for (const path of ['other/secret', 'other/nothing', 'other']) {
      const device = { type: 'file', path: join(folder, path), size: 4096 }
      const error: unknown = await manager
        .addLeg(null as never, 'x', { device })
        .catch((cause: unknown) => cause)
      const words = (error as Error).message.replace(device.path, '')
      expect(words).to.match(/^commands may not use : /)
    }
  })

  it('are where the configuration says, for everybody', () => {
    for (const management of [tcp, unix]) {
      const all = rights({ management, files: { allow: ['other'] } })
      expect(may(all, 'other/x.img')).to.equal(true)
      expect(may(all, 'images/right.img')).to.equal(false)
      expect(may(rights({ management, files: { allow: [] } }), 'images/x.img')).to.equal(false)
    }
  })

  it('are no other disks, beside one that is configured', () => {
    const devices = { a: { type: 'file', path: '/dev/null' }, b: { type: 'memory', size: 1 } }
    const config = checkConfig({ devices: { b: devices.b }, management: tcp }, folder).config
    const all = new FileRights({ ...config, devices: devices as never })
    expect(all.refusal({ type: 'file', path: '/dev/sda' })).to.contain('now none')
  })
})
