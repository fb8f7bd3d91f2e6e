import { expect } from 'chai'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import tls from 'node:tls'
import { systemClock } from '../../src/base/clock.ts'
import { SeededRandom } from '../support/seeded.ts'
import { MiB } from '../../src/base/size.ts'
import { Slab } from '../../src/base/slab.ts'
import type { Address } from '../../src/net/address.ts'
import type { Listener } from '../../src/net/network.ts'
import { SocketNetwork, type Receive } from '../../src/net/sockets.ts'
import { ClientTls } from '../../src/net/tls/client.ts'
import { Credential } from '../../src/net/tls/credential.ts'
import { ServerTls } from '../../src/net/tls/server.ts'
import { certificateFiles, type TlsSource } from '../../src/net/tls/source.ts'
import { makeKeys, makePki } from '../support/authority.ts'
import { Act, EchoHandler, frame } from '../support/framing.ts'

const random = new SeededRandom(7)

type Version = '1.2' | '1.3'

function credential(source: TlsSource): Credential {
  const made = new Credential(source, systemClock)
  made.read()
  expect(made.problem).to.equal('')
  return made
}

let folder: string

function keySource(minVersion: Version = '1.2', user: string | null = null): TlsSource {
  const keys = { path: path.join(folder, 'keys.psk'), needed: true }
  return { kind: 'keys', keys, user, minVersion }
}

function certificateSource(role: 'server' | 'client', minVersion: Version = '1.2'): TlsSource {
  return certificateFiles({ certificates: path.join(folder, 'pki') }, role, minVersion)
}

before(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'dst-tls-'))
  makePki(folder)
  makeKeys(path.join(folder, 'keys.psk'), 'alice', 'bob')
})

after(() => rmSync(folder, { recursive: true }))

/** A client of Node, so that nothing under test is on both ends. */
async function dial(
  address: Address,
  proof: 'keys' | 'certificates',
  version: Version,
): Promise<tls.TLSSocket> {
  const socket = net.connect(
    address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port },
  )
  await once(socket, 'connect')
  const read = (name: string): string => readFileSync(path.join(folder, name), 'utf8')
  const psk = Buffer.from(/^alice:(.*)$/m.exec(read('keys.psk'))![1]!, 'hex')
  const secured = tls.connect({
    socket,
    minVersion: `TLSv${version}`,
    maxVersion: `TLSv${version}`,
    ...(proof === 'keys'
      ? {
          ciphers: 'TLS_AES_128_GCM_SHA256:ECDHE-PSK-CHACHA20-POLY1305',
          pskCallback: () => ({ psk, identity: 'alice' }),
          checkServerIdentity: () => undefined,
        }
      : {
          ca: read('pki/ca-cert.pem'),
          cert: read('pki/client-cert.pem'),
          key: read('pki/client-key.pem'),
          servername: 'localhost',
        }),
  })
  await once(secured, 'secureConnect')
  return secured
}

async function collect(socket: net.Socket, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  while (length < bytes) {
    const [chunk] = (await once(socket, 'data')) as [Buffer]
    chunks.push(chunk)
    length += chunk.length
  }
  return Buffer.concat(chunks)
}

for (const receive of ['landing', 'events'] satisfies Receive[])
  for (const kind of ['tcp', 'unix'] as const)
    for (const [proof, version] of [
      ['keys', '1.3'],
      ['keys', '1.2'],
      ['certificates', '1.3'],
      ['certificates', '1.2'],
    ] as const)
      describe(`TLS ${version} with ${proof}: ${receive} over ${kind}`, () => {
        const slab = new Slab()
        const network = new SocketNetwork(receive)
        const handlers: EchoHandler[] = []
        let listener: Listener

        before(async () => {
          const side = new ServerTls(
            credential(proof === 'keys' ? keySource() : certificateSource('server')),
          )
          const address: Address =
            kind === 'tcp'
              ? { kind, host: '127.0.0.1', port: 0 }
              : { kind, path: path.join(folder, 'echo.sock') }
          listener = await network.listen(address, (connection) => {
            const handler = new EchoHandler(connection, slab)
            handlers.push(handler)
            connection.startTls!(side, () => undefined)
            return handler
          })
        })

        after(() => listener.close())

        afterEach(async () => {
          for (const handler of handlers)
            if (handler.closedWith === undefined)
              await new Promise<void>((resolve) => {
                handler.onClosed = resolve
                handler.connection.destroy()
              })
          handlers.length = 0
          expect(slab.bytesHeld, 'every block was given back').to.equal(0)
        })

        it('echoes frames of every size, whatever lands together', async () => {
          const socket = await dial(listener.address, proof, version)
          const lengths = [0, 1, 7, 4095, 16_384, 16_385, 65_536, 300_000, 5_000_000, 3, 0, 100]
          const frames = lengths.map((length) => frame(Act.echo, random.bytes(length)))
          const sent = Buffer.concat(frames)
          socket.write(sent)
          expect((await collect(socket, sent.length)).equals(sent)).to.equal(true)
          const { tls: known } = handlers[0]!.connection.identity
          if (proof === 'keys') expect(known).to.deep.equal({ psk: 'alice' })
          else expect(known).to.include({ commonName: 'client' }).and.not.have.property('psk')
          socket.destroy()
        })

        it('loses nothing that arrives while it is stalled', async () => {
          const socket = await dial(listener.address, proof, version)
          const parts: Buffer[] = []
          for (let n = 0; n < 12; n++) {
            parts.push(frame(n % 3 === 0 ? Act.stall : Act.echo, random.bytes(n * 9_000)))
            parts.push(frame(Act.echo, random.bytes(n)))
          }
          const sent = Buffer.concat(parts)
          const back = collect(socket, sent.length)
          for (let at = 0; at < sent.length; at += 7_001) {
            socket.write(sent.subarray(at, at + 7_001))
            await new Promise((next) => setImmediate(next))
          }
          expect((await back).equals(sent)).to.equal(true)
          socket.destroy()
        })

        it('delivers its last words before it ends, though the peer talks on', async () => {
          const socket = await dial(listener.address, proof, version)
          const words = frame(Act.echo, random.bytes(3 * MiB))
          socket.on('error', () => undefined)
          socket.write(words)
          socket.write(frame(Act.end, Buffer.alloc(0)))
          socket.write(Buffer.alloc(MiB))
          const chunks: Buffer[] = []
          socket.on('data', (chunk: Buffer) => chunks.push(chunk))
          await once(socket, 'end')
          expect(Buffer.concat(chunks).equals(words)).to.equal(true)
          socket.destroy()
        })

        it('survives a peer that closes in the middle of a payload', async () => {
          for (const cut of [3, 8, 12, 100_000]) {
            const socket = await dial(listener.address, proof, version)
            socket.on('error', () => undefined)
            socket.write(frame(Act.echo, Buffer.alloc(1_000_000)).subarray(0, cut))
            socket.end()
            await once(socket.resume(), 'close')
          }
        })

        it('is what our own client speaks', async () => {
          const host = kind === 'tcp' ? '127.0.0.1' : null
          const source = proof === 'keys' ? keySource(version, 'bob') : certificateSource('client')
          const expected = { host, verifyPeer: true, protocol: null }
          const side = new ClientTls(credential(source), expected)
          const sent = frame(Act.echo, random.bytes(2_000_000))
          const chunks: Buffer[] = []
          let length = 0
          const place = Buffer.alloc(100_000)
          await new Promise<void>((resolve, reject) => {
            network.connect(
              listener.address,
              5000,
              (connection) => {
                connection.startTls!(side, () => undefined)
                connection.send([sent.subarray(0, 5), sent.subarray(5, 70_000)])
                connection.send([sent.subarray(70_000)])
                return {
                  landing: () => place,
                  landed: (bytes) => {
                    chunks.push(Buffer.from(place.subarray(0, bytes)))
                    length += bytes
                    if (length === sent.length) connection.end()
                  },
                  sent: () => undefined,
                  closed: (reason) => {
                    if (reason === null) resolve()
                    else reject(reason)
                  },
                }
              },
              reject,
            )
          })
          expect(Buffer.concat(chunks).equals(sent)).to.equal(true)
        })
      })
