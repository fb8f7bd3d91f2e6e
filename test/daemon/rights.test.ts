import { expect } from 'chai'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { StorageError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { Slab } from '../../src/base/slab.ts'
import { checkConfig } from '../../src/config/config.ts'
import { Target } from '../../src/daemon/target.ts'
import type { Device } from '../../src/device/device.ts'
import type { Address } from '../../src/net/address.ts'
import { SocketNetwork } from '../../src/net/sockets.ts'
import { listExports as listNbd } from '../../src/nbd/list.ts'
import { listExports as listDst } from '../../src/wire/list.ts'
import { nbdLeaf } from '../nbd/leaf.ts'
import { read, write } from '../support/io.ts'
import { clientContext, reaches, remote } from '../wire/rig.ts'
import { SeededRandom } from '../support/seeded.ts'

const bytes = Buffer.alloc(4096, 1)

async function errorOf(work: Promise<unknown>): Promise<StorageError | null> {
  return work.then(
    () => null,
    (error: unknown) => error as StorageError,
  )
}

/** Why the device cannot be used; it is closed again. */
async function whyNot(device: Device): Promise<string> {
  await device.open()
  await reaches(device, ({ state }) => state.reason !== '')
  const { reason } = device.state
  await device.close()
  return reason
}

const rules = {
  home: [
    { unix: true, may: ['read', 'write', 'claim', 'list'] },
    { address: '127.0.0.1', may: ['read', 'write'] },
  ],
  seen: [{ address: '127.0.0.0/8', may: ['read', 'list'] }],
  hidden: [{ address: '192.0.2.0/24', may: ['read', 'write', 'list'] }],
  shown: [{ unix: true, may: ['list'] }],
}

describe('an export with rules', () => {
  let folder: string
  let target: Target
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'dst-rights-'))
    const entries = Object.entries(rules)
    const names = entries.map(([name]) => [name, { type: 'memory', size: '1M' }])
    const devices = Object.fromEntries(names) as Record<string, object>
    const exports = Object.fromEntries(
      entries.map(([name, allow]) => [name, { device: name, allow }]),
    )
    const listeners = ['dst', 'nbd'].flatMap((protocol) => [
      { protocol, address: `unix:${protocol}` },
      { protocol, address: '127.0.0.1:0' },
      { protocol, address: `unix:${protocol}-home`, exports: ['home'] },
      { protocol, address: `unix:${protocol}-shown`, exports: ['shown'] },
    ])
    const state = { directory: join(folder, 'state') }
    const { config } = checkConfig({ devices, exports, listeners, state }, folder)
    const parts = { clock: systemClock, random: systemRandom, slab: new Slab(), log: silentLog }
    target = new Target(config, { ...parts, network: new SocketNetwork() })
    await target.start()
  })
  after(async () => {
    await target.stop()
    rmSync(folder, { recursive: true })
  })

  function tcp(protocol: string): Address {
    return target.listeners.find((one) => one.protocol === protocol && one.address.kind === 'tcp')!
      .address
  }

  function unix(name: string): Address {
    return { kind: 'unix', path: join(folder, name) }
  }

  it('is listed for those who may see it, over each protocol and listener', async () => {
    for (const [protocol, list] of [
      ['dst', listDst],
      ['nbd', listNbd],
    ] as const) {
      const names = async (address: Address) =>
        (await list(clientContext(), address, 5000)).map(({ name }) => name)
      expect(await names(unix(protocol))).to.deep.equal(['home', 'shown'])
      expect(await names(tcp(protocol))).to.deep.equal(['seen'])
      expect(await names(unix(`${protocol}-home`))).to.deep.equal(['home'])
    }
  })

  it('does not exist for others: they hear what they hear of a name that is none', async () => {
    const heard = async (name: string, address: Address, client: typeof remote | typeof nbdLeaf) =>
      (await whyNot(client(address, name))).replaceAll(name, 'NAME')
    for (const [address, client] of [
      [tcp('dst'), remote],
      [tcp('nbd'), nbdLeaf],
    ] as const) {
      const none = await heard('nothing', address, client)
      expect(none).to.include('no')
      expect(await heard('hidden', address, client)).to.equal(none)
    }
    for (const [address, client] of [
      [unix('dst-home'), remote],
      [unix('nbd-home'), nbdLeaf],
    ] as const)
      expect(await heard('seen', address, client)).to.equal(await heard('none', address, client))
  })

  it('is not used by who may only see it, by the empty name neither', async () => {
    for (const name of ['shown', ''])
      expect(await whyNot(nbdLeaf(unix('nbd-shown'), name))).to.include('no such export')
    expect(await whyNot(remote(unix('dst-shown'), 'shown'))).to.include('there is no export')
  })

  it('is read-only for those who may only read', async () => {
    for (const device of [remote(tcp('dst'), 'seen'), nbdLeaf(tcp('nbd'), 'seen')]) {
      await device.open()
      expect(device.facts!.readOnly).to.equal(true)
      expect((await read(device, 0, 4096)).length).to.equal(4096)
      expect((await errorOf(write(device, 0, bytes)))?.code).to.equal('READ_ONLY')
      await device.close()
    }
  })

  it('is claimed by those who may, and by no others', async () => {
    const [stranger, head] = [remote(tcp('dst'), 'home'), remote(unix('dst'), 'home')]
    await Promise.all([stranger.open(), head.open()])
    await write(stranger, 0, bytes)
    const refused = await errorOf(stranger.driver.claim!(7))
    expect(refused?.code).to.equal('READ_ONLY')
    expect(refused?.message).to.include('rules')
    expect(await head.driver.claimed!()).to.deep.equal({ held: 0, givenUp: 0 })
    await head.driver.claim!(5)
    await write(head, 0, bytes)
    expect((await errorOf(write(stranger, 0, bytes)))?.code).to.equal('FENCED')
    await Promise.all([stranger.close(), head.close()])
  })

  it('lets nobody into a session with more rights than his own', async () => {
    const knowing = () => ({ ...clientContext(), random: new SeededRandom(1) })
    const owner = remote(unix('dst'), 'home', {}, knowing())
    await owner.open()
    const thief = remote(tcp('dst'), 'home', {}, knowing())
    expect(await whyNot(thief)).to.include('other rights')
    expect((await read(owner, 0, 4096)).length).to.equal(4096)
    await owner.close()
  })
})
