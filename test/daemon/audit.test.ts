import { expect } from 'chai'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import net from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { Slab } from '../../src/base/slab.ts'
import { checkConfig } from '../../src/config/config.ts'
import { AuditLog } from '../../src/daemon/audit.ts'
import { Target } from '../../src/daemon/target.ts'
import type { AuditEvent } from '../../src/export/audit.ts'
import { TargetManager } from '../../src/manage/commands.ts'
import { statusOf } from '../../src/manage/status.ts'
import { SocketNetwork } from '../../src/net/sockets.ts'
import { nbdLeaf } from '../nbd/leaf.ts'
import { ManualClock } from '../support/clock.ts'
import { reaches, remote } from '../wire/rig.ts'

type Line = AuditEvent & { readonly unsaid?: number; readonly msg: string }

function linesOf(path: string): readonly Line[] {
  const text = readFileSync(path, 'utf8')
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line)
}

describe('an audit log', () => {
  const clock = new ManualClock()
  let folder: string
  let path: string
  let log: AuditLog
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dst-audit-'))
    path = join(folder, 'audit.log')
    log = new AuditLog({ path, mode: '0600' }, clock, silentLog)
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  it('has few lines of a peer that is refused often, and the number of the others', async () => {
    for (let count = 0; count < 1000; count++)
      log.note({ event: 'refuse', peer: `10.0.0.1:${count}`, reason: 'no' })
    log.note({ event: 'refuse', peer: '10.0.0.2:1', reason: 'no' })
    clock.advance(10_000)
    await log.close()
    const lines = linesOf(path)
    expect(lines.length).to.equal(22)
    expect(lines[20]).to.include({ peer: '10.0.0.2:1' })
    expect(lines[21]).to.include({ peer: '10.0.0.1:999', unsaid: 979 })
  })

  it('is not filled by many peers, which hide none of the other events', async () => {
    const count = 20_000
    for (let peer = 0; peer < count; peer++)
      log.note({ event: 'refuse', peer: `[2001:db8:${peer.toString(16)}::1]:7`, reason: 'no' })
    log.note({ event: 'claim', peer: '10.0.0.2:1', export: 'home', fence: 7 })
    await log.close()
    const lines = linesOf(path)
    expect(lines.length).to.be.below(110)
    const told = lines.filter(({ event }) => event === 'refuse')
    const unsaid = told.reduce((sum, line) => sum + (line.unsaid ?? 0), 0)
    expect(told.length + unsaid).to.equal(count)
    expect(lines.filter(({ event }) => event === 'claim').length).to.equal(1)
  })

  it('has some hundred lines of an hour of refusals, and none that is long', async () => {
    for (let ms = 0; ms < 3_600_000; ms += 100) {
      const peer = `[2001:db8:${(ms % 65_521).toString(16)}::1]:7`
      log.note({ event: 'refuse', peer, reason: ms === 0 ? 'x'.repeat(5000) : 'no' })
      clock.advance(100)
    }
    await log.close()
    const lines = linesOf(path)
    expect(lines.length).to.be.within(100, 1000)
    expect(lines[0]!.reason!.length).to.equal(2048)
    const unsaid = lines.reduce((sum, line) => sum + (line.unsaid ?? 0), 0)
    expect(lines.length + unsaid).to.equal(36_000)
  })

  it('is plain ASCII, whatever peers call themselves', async () => {
    const identity = 'psk:\u202eecila\u001b[2J\u0085é🙂\n"}'
    log.note({ event: 'refuse', peer: '10.0.0.1:1', identity, reason: 'no' })
    await log.close()
    expect(readFileSync(path, 'utf8')).to.match(/^[ -~]+\n$/)
    expect(linesOf(path)[0]).to.include({ identity })
  })
})

describe('the audit log of a target', () => {
  let folder: string
  let target: Target
  const path = (): string => join(folder, 'log', 'audit.log')

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'dst-audit-'))
    const home = [{ unix: true, may: ['read', 'write', 'claim'] }]
    const { config } = checkConfig(
      {
        audit: { path: 'log/audit.log' },
        listeners: ['dst', 'nbd'].flatMap((protocol) => [
          { protocol, address: `unix:${protocol}` },
          { protocol, address: '127.0.0.1:0' },
        ]),
        devices: { home: { type: 'memory', size: '1M' } },
        exports: { home: { device: 'home', allow: home } },
        state: { directory: 'state' },
      },
      folder,
    )
    const parts = { clock: systemClock, random: systemRandom, slab: new Slab(), log: silentLog }
    target = new Target(config, { ...parts, network: new SocketNetwork() })
    await target.start()
  })
  afterEach(async () => {
    await target.stop()
    rmSync(folder, { recursive: true })
  })

  it('says who used what, who was refused, who claimed, and who gave commands', async () => {
    mkdirSync(join(folder, 'log'))
    const unix = { kind: 'unix', path: join(folder, 'dst') } as const
    const head = remote(unix, 'home')
    await head.open()
    await reaches(head, ({ usable }) => usable)
    await head.driver.claim!(7)
    const client = nbdLeaf({ kind: 'unix', path: join(folder, 'nbd') }, 'home')
    await client.open()
    await client.close()
    const tcp = target.listeners.find(
      ({ address, protocol }) => protocol === 'dst' && address.kind === 'tcp',
    )!.address
    const stranger = remote(tcp, 'home')
    await stranger.open()
    await reaches(stranger, ({ state }) => state.reason !== '')
    await stranger.close()
    const garbage = net.connect((tcp as { port: number }).port, '127.0.0.1')
    garbage.on('error', () => undefined)
    garbage.end('GET / HTTP/1.1\r\n\r\n\r\n')
    await once(garbage, 'close')
    const manager = new TargetManager(target, 'dst')
    await manager.run('claim.reset', { export: 'home' }, {}, 'a local process')
    await manager.run('volume.start', { volume: 'no' }, { force: true }, 'x').catch(() => undefined)
    await head.close()
    await target.stop()
    const lines = linesOf(path())
    const words = lines.map(({ event, ...line }) => {
      const { protocol = '', export: name = '', rights = [], fence = '', command = '' } = line
      const outcome = line['outcome'] ?? line.reason ?? ''
      const more = [protocol, name, (rights as string[]).join('+'), fence, command, outcome]
      return [event, ...more].filter((word) => word !== '').join(' ')
    })
    expect(words).to.include.members([
      'start',
      'connect dst home read+write+claim',
      'claim dst home 7 done',
      'connect nbd home read+write',
      'disconnect nbd home',
      'refuse dst home there is no export "home"',
      'refuse dst it does not speak DST/1',
      'command home claim.reset',
      'commandEnd home claim.reset done',
      'command volume.start',
      'commandEnd volume.start failed',
      'stop',
    ])
    expect(lines.find(({ event }) => event === 'commandEnd')).to.include({
      peer: 'a local process',
    })
  })

  it('holds nothing up where it cannot be written: the status says so', async () => {
    const head = remote({ kind: 'unix', path: join(folder, 'dst') }, 'home')
    await head.open()
    await reaches(head, ({ usable }) => usable)
    await target.audit!.look()
    const { state, warnings } = statusOf(target, 'dst')
    expect(state).to.equal('degraded')
    expect(warnings!.join()).to.match(/the audit log is not written: .*ENOENT/)
    mkdirSync(join(folder, 'log'))
    await target.reload()
    await target.audit!.look()
    expect(statusOf(target, 'dst').state).to.equal('healthy')
    // What came before the folder was there is not lost.
    expect(linesOf(path()).map(({ event }) => event)).to.include.members(['start', 'connect'])
    await head.close()
  })

  it('is no device', () => {
    const audit = { path: 'disk.img' }
    const devices = { disk: { type: 'file', path: './disk.img', size: '1M', create: true } }
    expect(() => checkConfig({ audit, devices }, folder)).to.throw(/is the device disk/)
  })
})
