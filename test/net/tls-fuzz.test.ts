import { expect } from 'chai'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import tls from 'node:tls'
import { systemClock } from '../../src/base/clock.ts'
import { MiB } from '../../src/base/size.ts'
import { Credential } from '../../src/net/tls/credential.ts'
import { ServerTls } from '../../src/net/tls/server.ts'
import { certificateFiles } from '../../src/net/tls/source.ts'
import { makeKeys, makePki } from '../support/authority.ts'
import { SeededRandom } from '../support/seeded.ts'
import { Target } from '../wire/rig.ts'

/** Bytes of each connection that are mutated. */
const streams = 400

for (const proof of ['keys', 'certificates'] as const)
  describe(`TLS with ${proof}, of bytes that are wrong`, () => {
    let folder: string
    let target: Target
    let options: tls.ConnectionOptions

    before(async () => {
      folder = mkdtempSync(join(tmpdir(), 'dst-tls-'))
      const path = join(folder, 'keys.psk')
      const psk = makeKeys(path, 'alice').get('alice')!
      makePki(folder)
      const credential = new Credential(
        proof === 'keys'
          ? { kind: 'keys', keys: { path, needed: true }, user: null, minVersion: '1.2' }
          : certificateFiles({ certificates: join(folder, 'pki') }, 'server', '1.2'),
        systemClock,
      )
      credential.read()
      target = new Target()
      target.exports.tls = { mode: 'required', side: new ServerTls(credential) }
      await target.addMemory('disk', MiB)
      await target.start()
      options =
        proof === 'keys'
          ? {
              ciphers: 'TLS_AES_128_GCM_SHA256:ECDHE-PSK-CHACHA20-POLY1305',
              pskCallback: () => ({ identity: 'alice', psk }),
            }
          : {}
    })

    after(async () => {
      await target.stop()
      expect(target.slab.bytesHeld).to.equal(0)
      rmSync(folder, { recursive: true })
    })

    /** The first bytes of a client, as it would send them. */
    async function clientHello(version: 'TLSv1.2' | 'TLSv1.3'): Promise<Buffer> {
      const server = net.createServer()
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      const { port } = server.address() as net.AddressInfo
      const client = tls.connect({
        ...{ host: '127.0.0.1', port, minVersion: version, maxVersion: version },
        ...options,
      })
      client.on('error', () => undefined)
      const [socket] = (await once(server, 'connection')) as [net.Socket]
      const [bytes] = (await once(socket, 'data')) as [Buffer]
      client.destroy()
      socket.destroy()
      server.close()
      return bytes
    }

    it('are refused, one connection after the other, and nothing is kept', async () => {
      const random = new SeededRandom(77)
      const seeds = [await clientHello('TLSv1.3'), await clientHello('TLSv1.2')]
      const send = async (bytes: Buffer): Promise<void> => {
        const socket = net.connect(target.port, '127.0.0.1')
        socket.on('error', () => undefined)
        const closed = once(socket, 'close')
        socket.resume()
        const cut = random.bytes(1)[0]! % bytes.length
        socket.write(bytes.subarray(0, cut))
        socket.end(bytes.subarray(cut))
        await closed
      }
      for (let n = 0; n < streams; n++) {
        const bytes = Buffer.concat([seeds[n % 2]!, random.bytes(n % 3 === 0 ? 100 : 0)])
        const [how, count = 0] = random.bytes(2)
        for (let change = 0; change <= count % 4; change++) {
          const [high, low, value] = random.bytes(3)
          bytes[((high! << 8) | low!) % bytes.length] = value!
        }
        await send(how! % 5 === 0 ? bytes.subarray(0, 1 + (count % bytes.length)) : bytes)
      }
      while (target.service.clients().length > 0) await new Promise((next) => setImmediate(next))
      expect(target.admission.bytesInFlight).to.equal(0)
    })
  })
