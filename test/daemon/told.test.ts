import { expect } from 'chai'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import type { Log } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { Slab } from '../../src/base/slab.ts'
import { SocketNetwork } from '../../src/net/sockets.ts'
import { TargetManager } from '../../src/manage/commands.ts'
import { checkConfig } from '../../src/config/config.ts'
import { Target } from '../../src/daemon/target.ts'
import { Talker } from '../nbd/talker.ts'
import { write } from '../support/io.ts'
import { reaches, remote } from '../wire/rig.ts'

describe('the log of a target', () => {
  let folder: string
  let target: Target
  let lines: string[]
  const say = (_: object, message: string): void => void lines.push(message)
  const log: Log = { debug: () => undefined, info: say, warn: say, error: say }
  const at = (protocol: string) => ({ kind: 'unix', path: join(folder, protocol) }) as const

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dst-told-'))
    lines = []
    const listeners = ['nbd', 'dst'].map((protocol) => ({ protocol, address: `unix:${protocol}` }))
    const disk = { type: 'file', path: join(folder, 'disk.img'), size: '1M', create: true }
    const exports = { disk: { device: 'disk' } }
    const state = { directory: join(folder, 'state') }
    const { config } = checkConfig({ devices: { disk }, exports, listeners, state }, folder)
    const world = { clock: systemClock, random: systemRandom, slab: new Slab(), log }
    target = new Target(config, { ...world, network: new SocketNetwork() })
  })
  afterEach(async () => {
    await target.stop()
    rmSync(folder, { recursive: true })
  })

  const logged = (words: RegExp) =>
    expect(
      lines.some((line) => words.test(line)),
      `${words}`,
    )

  it('says who connects, is refused, claims, is fenced and gives commands', async () => {
    await target.start()
    const talker = await Talker.using(at('nbd'), 'disk', false)
    const other = await Talker.greeted(at('nbd'))
    await other.go('nowhere')
    const [older, newer] = [remote(at('dst'), 'disk'), remote(at('dst'), 'disk')]
    await Promise.all([older.open(), newer.open()])
    await older.driver.claim!(5)
    await newer.driver.claim!(6)
    await reaches(older, ({ state }) => state.word === 'failed')
    const manager = new TargetManager(target, 'test', log)
    await manager.run('claim.reset', { export: 'disk' }, {})
    await manager.run('leg.detach', { volume: 'none', leg: 'x' }, {}).catch(() => undefined)
    logged(/an NBD client uses an export/).to.equal(true)
    logged(/an NBD client was refused/).to.equal(true)
    logged(/a DST\/1 client uses an export/).to.equal(true)
    logged(/a DST\/1 client claimed with 5/).to.equal(true)
    logged(/a client was fenced/).to.equal(true)
    logged(/gave a command: claim\.reset/).to.equal(true)
    logged(/command of an operator failed: leg\.detach/).to.equal(true)
    for (const each of [talker, other]) each.close()
    for (const each of [older, newer]) await each.close()
  })

  it('says that all claims were reset: the way out of a damaged record', async () => {
    await target.start()
    const head = remote(at('dst'), 'disk')
    await head.open()
    await head.driver.claim!(5)
    await head.close()
    await target.stop()
    const record = join(folder, 'state', 'target.claims.json')
    writeFileSync(record, readFileSync(record, 'utf8').replace('5', '6'))
    const { config } = target
    const world = { clock: systemClock, random: systemRandom, slab: new Slab(), log }
    target = new Target(config, { ...world, network: new SocketNetwork() })
    await target.start()
    const manager = new TargetManager(target, 'test', log)
    const one = await manager.run('claim.reset', { export: 'disk' }, {}).catch((e: unknown) => e)
    expect((one as Error).message)
      .to.include('is damaged')
      .and.to.include('--all')
    expect(await manager.run('claims.reset', {}, {})).to.deep.equal({ forgotten: null })
    logged(/reset the claims of all devices/).to.equal(true)
    const next = remote(at('dst'), 'disk')
    await next.open()
    await next.driver.claim!(1)
    await write(next, 0, Buffer.alloc(4096, 1))
    await next.close()
  })
})
