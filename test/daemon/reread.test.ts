import { expect } from 'chai'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { StorageError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { Slab } from '../../src/base/slab.ts'
import { checkConfig } from '../../src/config/config.ts'
import type { Config } from '../../src/config/config.types.ts'
import { Reread } from '../../src/daemon/reread.ts'
import { Target } from '../../src/daemon/target.ts'
import { statusOf } from '../../src/manage/status.ts'
import { SocketNetwork } from '../../src/net/sockets.ts'
import { nbdLeaf } from '../nbd/leaf.ts'
import { reaches, remote } from '../wire/rig.ts'

const everything = [{ unix: true, may: ['read', 'write', 'claim', 'list'] }]

describe('rules that are read again', () => {
  let folder: string
  let target: Target

  function configOf(home: object, more: object = {}): Config {
    return checkConfig(
      {
        audit: { path: 'audit.log' },
        listeners: ['dst', 'nbd'].map((protocol) => ({ protocol, address: `unix:${protocol}` })),
        devices: { home: { type: 'memory', size: '1M' }, other: { type: 'memory', size: '1M' } },
        exports: { home: { device: 'home', ...home }, other: { device: 'other' }, ...more },
        state: { directory: 'state' },
      },
      folder,
    ).config
  }

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'dst-reread-'))
    const parts = { clock: systemClock, random: systemRandom, slab: new Slab(), log: silentLog }
    const config = configOf({ allow: everything })
    target = new Target(config, { ...parts, network: new SocketNetwork() })
    await target.start()
  })
  afterEach(async () => {
    await target.stop()
    rmSync(folder, { recursive: true })
  })

  const unix = (protocol: string) => ({ kind: 'unix', path: join(folder, protocol) }) as const

  it('let go who has lost a right, and nobody else', async () => {
    const clients = [
      remote(unix('dst'), 'home', { hold: 0 }),
      nbdLeaf(unix('nbd'), 'home', { hold: 0 }),
    ]
    const others = [remote(unix('dst'), 'other'), nbdLeaf(unix('nbd'), 'other')]
    for (const device of [...clients, ...others]) {
      await device.open()
      await reaches(device, ({ usable }) => usable)
    }
    // The same rules again, and limits, end no connection.
    await target.reload(() => configOf({ allow: everything, limits: { bytesPerSecond: '1G' } }))
    expect(target.clients().length).to.equal(4)
    expect(statusOf(target, 'dst').exports['home']!.limits).to.have.lengthOf(1)
    await target.reload(() => configOf({ allow: [{ unix: true, may: ['list'] }] }))
    await Promise.all(clients.map((device) => reaches(device, ({ usable }) => !usable)))
    // Clients may see the end of a connection before the target does.
    const served = () => target.clients().map((client) => client.export)
    while (served().includes('home')) await new Promise((resolve) => setImmediate(resolve))
    expect(served()).to.deep.equal(['other', 'other'])
    await target.reload(() => configOf({ allow: everything }))
    await Promise.all(clients.map((device) => reaches(device, ({ usable }) => usable)))
    for (const device of [...clients, ...others]) await device.close()
    await target.stop()
    const log = readFileSync(join(folder, 'audit.log'), 'utf8')
    expect(log).to.match(/"disconnect".*"nbd".*"home".*its rights have changed/)
    expect(log).to.match(/"disconnect".*"dst".*"home".*its rights have changed/)
    expect(log).to.not.match(/"other".*its rights have changed/)
    expect(log.match(/"event":"rules"/g)).to.have.lengthOf(3)
  })

  it('are not in force where the file is wrong: those from before hold', async () => {
    const client = nbdLeaf(unix('nbd'), 'home')
    await client.open()
    await target.reload(() => {
      throw new StorageError('CONFIG', 'unknown property "alow"\nand more')
    })
    expect(client.usable).to.equal(true)
    const { state, warnings } = statusOf(target, 'dst')
    expect(state).to.equal('degraded')
    expect(warnings!.join()).to.match(/rules of exports were not read: unknown property "alow"; /)
    // What is not served yet waits for a restart, and what was left out keeps its rules.
    const moved = { new: { device: 'other' } }
    await target.reload(() => configOf({ allow: everything }, moved))
    expect(statusOf(target, 'dst').state).to.equal('healthy')
    expect(target.exports.list().map(({ name }) => name)).to.deep.equal(['home', 'other'])
    await client.close()
  })

  it('open nothing at a listener that other machines reach', () => {
    const config = configOf({ allow: everything })
    const listener = { protocol: 'nbd', address: '0.0.0.0:10809', credentials: 'lan', open: false }
    const running = { ...config, listeners: [listener] } as unknown as Config
    running.exports['other']!.allow = []
    const reread = new Reread(running)
    // The file has another listener by now, but this one is open.
    expect(reread.terms(() => configOf({}))).to.equal(null)
    expect(reread.problem).to.contain('everything with "home"')
    expect(reread.terms(() => running)).to.have.keys('home', 'other')
    expect(reread.problem).to.equal('')
  })
})
