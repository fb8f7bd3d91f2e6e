import { expect } from 'chai'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import tls from 'node:tls'
import { systemClock } from '../../src/base/clock.ts'
import { MiB } from '../../src/base/size.ts'
import { Credential } from '../../src/net/tls/credential.ts'
import { ServerTls } from '../../src/net/tls/server.ts'
import { Command } from '../../src/nbd/codec.ts'
import { Option } from '../../src/nbd/options.ts'
import { makeKeys } from '../support/authority.ts'
import { defaultLimits } from '../support/limits.ts'
import { Rig } from './rig.ts'
import { Talker } from './talker.ts'

describe('an NBD client under TLS that sends garbage behind many requests', () => {
  it('does not stop the process', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'dst-nbd-tls-'))
    const path = join(folder, 'keys.psk')
    const key = makeKeys(path, 'alice').get('alice')!
    const credential = new Credential(
      { kind: 'keys', keys: { path, needed: true }, user: null, minVersion: '1.3' },
      systemClock,
    )
    credential.read()
    const rig = new Rig()
    rig.exports.tls = { mode: 'required', side: new ServerTls(credential) }
    await rig.listen()
    await rig.addMemory('disk', 64 * MiB)
    const found: string[] = []
    const old = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    let tries = 0
    process.on('uncaughtException', (error) => found.push(`${tries}: ${error.stack}`))
    while (found.length === 0 && tries < 40) {
      tries++
      const talker = await Talker.greeted(rig.tcp)
      await talker.option(Option.startTls)
      talker.socket.removeAllListeners('data')
      const sealed = tls.connect({
        socket: talker.socket,
        ciphers: 'TLS_AES_128_GCM_SHA256',
        pskCallback: () => ({ identity: 'alice', psk: key }),
        checkServerIdentity: () => undefined,
      })
      await once(sealed, 'secureConnect')
      const inner = new Talker(sealed)
      await inner.go('disk')
      const all: Buffer[] = []
      // They complete in an immediate, and each that is answered lets another in.
      const count = defaultLimits.requestsPerConnection + 1 + Math.floor(Math.random() * 300)
      for (let n = 0; n < count; n++)
        all.push(inner.request(Command.writeZeroes, 0, 17 * MiB, n, 0))
      all.push(Buffer.alloc(28, 0xff))
      inner.say(Buffer.concat(all))
      await inner.closed()
      talker.close()
    }
    await new Promise((next) => setTimeout(next, 50))
    process.removeAllListeners('uncaughtException')
    for (const each of old) process.on('uncaughtException', each)
    rmSync(folder, { recursive: true })
    expect(found).to.deep.equal([])
    await rig.close()
  })
})
