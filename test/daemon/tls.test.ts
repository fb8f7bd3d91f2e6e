import { expect } from 'chai'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { Slab } from '../../src/base/slab.ts'
import { checkConfig } from '../../src/config/config.ts'
import { Target } from '../../src/daemon/target.ts'
import type { Device } from '../../src/device/device.ts'
import { SocketNetwork } from '../../src/net/sockets.ts'
import { ClientTls } from '../../src/net/tls/client.ts'
import { Credential } from '../../src/net/tls/credential.ts'
import { dstProtocol } from '../../src/net/tls/side.ts'
import { makeKeys } from '../support/authority.ts'
import { read, write } from '../support/io.ts'
import { SeededRandom } from '../support/seeded.ts'
import { clientContext, reaches, remote } from '../wire/rig.ts'

const bytes = Buffer.alloc(4096, 1)

describe('a target over DST/1 with TLS', () => {
  let folder: string
  let target: Target
  let keys: Map<string, Buffer>
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'dst-tls-'))
    keys = makeKeys(join(folder, 'keys.psk'), 'alice', 'bob', 'eve')
    const all = ['read', 'write', 'claim', 'list']
    const { config } = checkConfig(
      {
        credentials: { keys: { psk: 'keys.psk' } },
        state: { directory: 'state' },
        listeners: [
          { protocol: 'dst', address: '127.0.0.1:0', credentials: 'keys' },
          { protocol: 'dst', address: 'unix:plain' },
        ],
        devices: { disk: { type: 'memory', size: '1M' } },
        exports: {
          disk: {
            device: 'disk',
            allow: [
              { psk: 'alice', may: all },
              { psk: 'bob', may: all },
              { unix: true, may: all },
            ],
          },
        },
      },
      folder,
    )
    const parts = { clock: systemClock, random: systemRandom, slab: new Slab(), log: silentLog }
    target = new Target(config, { ...parts, network: new SocketNetwork() })
    await target.start()
  })
  after(async () => {
    await target.stop()
    rmSync(folder, { recursive: true })
  })

  /** A client that has, or has stolen, the id that a seed stands for. */
  function as(user: string, seed: number, protocol: string | null = dstProtocol): Device {
    const file = { path: join(folder, 'keys.psk'), needed: true }
    const credential = new Credential(
      { kind: 'keys', keys: file, user, minVersion: '1.3' },
      systemClock,
    )
    credential.read()
    const tls = new ClientTls(credential, { host: null, verifyPeer: true, protocol })
    const context = { ...clientContext(), random: new SeededRandom(seed) }
    return remote(target.listeners[0]!.address, 'disk', { tls }, context)
  }

  /** Why the device cannot be used; it is closed again. */
  async function whyNot(device: Device): Promise<string> {
    await device.open()
    await reaches(device, ({ state }) => state.reason !== '')
    const { reason } = device.state
    await device.close()
    return reason
  }

  it('gives a stolen session id nothing, with another identity, or with none', async () => {
    const owner = as('alice', 1)
    await owner.open()
    await write(owner, 0, bytes)
    await owner.driver.claim!(5)
    expect(await whyNot(as('bob', 1))).to.contain('another identity')
    const context = { ...clientContext(), random: new SeededRandom(1) }
    const plain = remote({ kind: 'unix', path: join(folder, 'plain') }, 'disk', {}, context)
    expect(await whyNot(plain)).to.contain('another identity')
    expect((await read(owner, 0, 4096)).equals(bytes)).to.equal(true)
    await write(owner, 4096, bytes)
    expect(await owner.driver.claimed!()).to.include({ held: 5 })
    await owner.driver.claim!(0)
    await owner.close()
  })

  it('is not there for who has no rule, or does not name the protocol', async () => {
    expect(await whyNot(as('eve', 2))).to.match(/no export/)
    expect(await whyNot(as('alice', 3, 'http/1.1'))).to.match(/TLS|closed|reset/i)
    expect(await whyNot(as('alice', 4, null))).to.match(/TLS|closed|reset/i)
  })

  it('cuts off a client whose key is taken back, and no other', async () => {
    const [alice, bob] = [as('alice', 5), as('bob', 6)]
    await Promise.all([alice.open(), bob.open()])
    await Promise.all([read(alice, 0, 4096), read(bob, 0, 4096)])
    const line = (user: string): string => `${user}:${keys.get(user)!.toString('hex')}\n`
    writeFileSync(join(folder, 'keys.psk'), line('alice') + line('eve'))
    const lost = reaches(bob, ({ state }) => state.word !== 'online')
    await target.reload()
    await lost
    expect(alice.state.word).to.equal('online')
    expect((await read(alice, 0, 4096)).length).to.equal(4096)
    writeFileSync(join(folder, 'keys.psk'), line('alice') + line('bob') + line('eve'))
    await target.reload()
    await reaches(bob, ({ state }) => state.word === 'online')
    await Promise.all([alice.close(), bob.close()])
  })
})
