import { expect } from 'chai'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Readable } from 'node:stream'
import tls from 'node:tls'
import { systemClock } from '../../src/base/clock.ts'
import type { StorageError } from '../../src/base/errors.ts'
import { Slab } from '../../src/base/slab.ts'
import type { Listener } from '../../src/net/network.ts'
import { SocketNetwork } from '../../src/net/sockets.ts'
import { ClientTls } from '../../src/net/tls/client.ts'
import { Credential } from '../../src/net/tls/credential.ts'
import { ServerTls } from '../../src/net/tls/server.ts'
import { certificateFiles, type TlsSource } from '../../src/net/tls/source.ts'
import { makeKeys, makePki, TestAuthority } from '../support/authority.ts'
import { Act, EchoHandler, frame } from '../support/framing.ts'

/** An echo server that demands TLS. */
class Server {
  readonly slab = new Slab()
  readonly handlers: EchoHandler[] = []
  readonly credential: Credential
  listener!: Listener
  /** Why connections were closed. */
  readonly reasons: (StorageError | null)[] = []
  private closed: (() => void) | null = null

  constructor(source: TlsSource) {
    this.credential = new Credential(source, systemClock)
    this.credential.read()
    expect(this.credential.problem).to.equal('')
  }

  async listen(): Promise<void> {
    const side = new ServerTls(this.credential)
    const address = { kind: 'tcp', host: '127.0.0.1', port: 0 } as const
    this.listener = await new SocketNetwork().listen(address, (connection) => {
      const handler = new EchoHandler(connection, this.slab)
      handler.onClosed = () => {
        this.reasons.push(handler.closedWith ?? null)
        this.closed?.()
      }
      this.handlers.push(handler)
      connection.startTls!(side, () => undefined)
      return handler
    })
  }

  get port(): number {
    const { address } = this.listener
    return address.kind === 'tcp' ? address.port : 0
  }

  /** Resolves once so many connections are closed. */
  async over(count: number): Promise<void> {
    while (this.reasons.length < count)
      await new Promise<void>((resolve) => (this.closed = resolve))
    expect(this.slab.bytesHeld, 'every block was given back').to.equal(0)
  }
}

/** The output of a program. */
class Heard {
  private said = ''
  private look: (() => void) | null = null

  constructor(...streams: readonly Readable[]) {
    for (const stream of streams)
      stream.on('data', (bytes: Buffer) => {
        this.said += bytes.toString('latin1')
        this.look?.()
      })
  }

  /** Resolves once a text was said so often. */
  async times(text: string, count: number): Promise<void> {
    while (this.said.split(text).length <= count)
      await new Promise<void>((resolve) => (this.look = resolve))
  }
}

/** What a client sees: an echo, or how it was turned away. */
async function outcome(port: number, options: tls.ConnectionOptions): Promise<string> {
  const socket = tls.connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options })
  const sent = frame(Act.echo, Buffer.from('hello'))
  const seen: string[] = []
  return new Promise((resolve) => {
    socket.on('secureConnect', () => {
      seen.push('secure')
      socket.write(sent)
    })
    socket.on('data', () => {
      seen.push('echo')
      socket.destroy()
    })
    socket.on('error', ({ code }: NodeJS.ErrnoException) => seen.push(String(code)))
    socket.on('close', () => resolve(seen.join(' ')))
  })
}

describe('TLS refuses', () => {
  let folder: string
  let authority: TestAuthority
  const at = (...parts: readonly string[]): string => path.join(folder, ...parts)

  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'dst-tls-'))
    authority = makePki(folder)
  })

  afterEach(() => rmSync(folder, { recursive: true }))

  const keysOf = (minVersion: '1.2' | '1.3' = '1.2'): TlsSource => {
    const keys = { path: at('keys.psk'), needed: true }
    return { kind: 'keys', keys, user: null, minVersion }
  }
  const certificates = (minVersion: '1.2' | '1.3' = '1.2'): TlsSource =>
    certificateFiles({ certificates: at('pki') }, 'server', minVersion)

  const pair = (place: string) => ({
    cert: readFileSync(path.join(place, 'client-cert.pem')),
    key: readFileSync(path.join(place, 'client-key.pem')),
  })

  for (const version of ['TLSv1.3', 'TLSv1.2'] as const) {
    const only = { minVersion: version, maxVersion: version }

    it(`${version}: an unknown identity exactly as a wrong key`, async () => {
      const keys = makeKeys(at('keys.psk'), 'alice')
      const server = new Server(keysOf())
      await server.listen()
      const ciphers = 'TLS_AES_128_GCM_SHA256:ECDHE-PSK-CHACHA20-POLY1305'
      const as = (identity: string, psk: Buffer) =>
        outcome(server.port, { ...only, ciphers, pskCallback: () => ({ identity, psk }) })
      const key = keys.get('alice')!
      expect(await as('alice', key)).to.equal('secure echo')
      const wrong = await as('alice', Buffer.alloc(32))
      const unknown = await as('eve', key)
      expect(unknown).to.equal(wrong)
      expect(wrong).not.to.contain('secure')
      expect(await outcome(server.port, only)).not.to.contain('secure')
      await server.over(4)
      const [first, second] = server.reasons.filter((reason) => reason !== null)
      expect(first?.message).to.match(/^TLS: /)
      expect(second?.message).to.equal(first?.message)
      await server.listener.close()
    })

    it(`${version}: expired, revoked and foreign certificates alike, and none`, async () => {
      const subject = { commonName: 'client', purpose: 'client' } as const
      authority.issue(at('old'), { ...subject, days: -1 })
      authority.issue(at('revoked'), subject)
      authority.revoke(at('revoked', 'client-cert.pem'), at('pki'))
      new TestAuthority(at('others')).issue(at('foreign'), subject)
      authority.issue(at('server'), { commonName: 'server', purpose: 'server' })
      for (const kind of ['cert', 'key'])
        copyFileSync(at('server', `server-${kind}.pem`), at('server', `client-${kind}.pem`))
      const server = new Server(certificates())
      await server.listen()
      const from = (place: string) => outcome(server.port, { ...only, ...pair(at(place)) })
      expect(await from('pki')).to.equal('secure echo')
      const old = await from('old')
      expect(old).not.to.contain('echo')
      expect(await from('revoked')).to.equal(old)
      expect(await from('foreign')).to.equal(old)
      // A certificate for servers is none for clients.
      expect(await from('server')).to.equal(old)
      expect(await outcome(server.port, only)).not.to.contain('echo')
      await server.over(6)
      const refusals = server.reasons.filter((reason) => reason !== null)
      expect(refusals.map(({ code }) => code)).to.deep.equal(Array(5).fill('PROTOCOL'))
      await server.listener.close()
    })
  }

  it('TLS 1.2 unless it was allowed, and words in clear', async () => {
    const server = new Server(certificates('1.3'))
    await server.listen()
    const old = { maxVersion: 'TLSv1.2' } as const
    expect(await outcome(server.port, { ...old, ...pair(at('pki')) })).to.match(/^ERR_SSL/)
    const plain = net.connect(server.port, '127.0.0.1')
    plain.write(frame(Act.echo, Buffer.alloc(10_000)))
    await once(plain.resume(), 'close')
    await server.over(2)
    await server.listener.close()
  })

  it('what was taken back: a key, a certificate, an authority', async () => {
    const keys = makeKeys(at('keys.psk'), 'alice', 'bob')
    const server = new Server(keysOf())
    await server.listen()
    const ciphers = 'TLS_AES_128_GCM_SHA256'
    const dial = async (options: tls.ConnectionOptions, port: number): Promise<tls.TLSSocket> => {
      const more = { port, host: '127.0.0.1', rejectUnauthorized: false }
      const socket = tls.connect({ ...more, ...options })
      socket.on('error', () => undefined)
      await once(socket, 'secureConnect')
      socket.write(frame(Act.echo, Buffer.from('x')))
      await once(socket, 'data')
      return socket
    }
    const pskCallback = () => ({ identity: 'bob', psk: keys.get('bob')! })
    const bob = await dial({ ciphers, pskCallback }, server.port)
    writeFileSync(at('keys.psk'), 'damaged')
    expect(await server.credential.look()).to.equal('broken')
    expect(server.credential.problem).to.contain(at('keys.psk'))
    expect(server.reasons).to.have.length(0)
    writeFileSync(at('keys.psk'), `alice:${keys.get('alice')!.toString('hex')}\n`)
    expect(await server.credential.look()).to.equal('read')
    await once(bob, 'close')
    await server.over(1)
    await server.listener.close()

    const other = new Server(certificates())
    await other.listen()
    const client = await dial(pair(at('pki')), other.port)
    authority.issue(at('more'), { commonName: 'more', purpose: 'client' })
    const more = await dial(pair(at('more')), other.port)
    authority.revoke(at('more', 'client-cert.pem'), at('pki'))
    expect(await other.credential.look()).to.equal('read')
    await once(more, 'close')
    expect(client.destroyed).to.equal(false)
    expect(await other.credential.look()).to.equal('same')
    new TestAuthority(at('new'))
    copyFileSync(at('new', 'ca-cert.pem'), at('pki', 'ca-cert.pem'))
    expect(await other.credential.look()).to.equal('read')
    await once(client, 'close')
    await other.over(2)
    await other.listener.close()
  })

  it('no client that renews its keys, and no second handshake', async () => {
    const server = new Server(certificates())
    await server.listen()
    const connect = ['s_client', '-connect', `127.0.0.1:${server.port}`]
    const own = ['-cert', at('pki', 'client-cert.pem'), '-key', at('pki', 'client-key.pem')]
    for (const [version, command, answer] of [
      ['-tls1_3', 'K', 'KEYUPDATE'],
      ['-tls1_3', 'k', 'KEYUPDATE'],
      ['-tls1_2', 'R', 'no renegotiation'],
    ] as const) {
      const child = spawn('openssl', [...connect, ...own, version])
      const said = new Heard(child.stdout, child.stderr)
      await said.times('Verify return code', 1)
      // Node counts these as attacks, and more than three would end a connection.
      for (let times = 1; times <= (version === '-tls1_3' ? 6 : 1); times++) {
        child.stdin.write(`${command}\n`)
        await said.times(answer, times)
      }
      if (version === '-tls1_3') {
        child.stdin.write(frame(Act.echo, Buffer.from('echoed\n')))
        await said.times('echoed', 1)
      }
      const over = once(child, 'exit')
      child.kill('SIGKILL')
      await over
    }
    await server.over(3)
    expect(await outcome(server.port, pair(at('pki')))).to.equal('secure echo')
    await server.over(4)
    await server.listener.close()
  })

  it('a server that does not prove itself', async () => {
    makeKeys(at('keys.psk'), 'alice')
    const keys = { path: at('keys.psk'), needed: true }
    const outcomes: string[] = []
    const ask = (port: number, source: TlsSource, host: string | null): Promise<string> =>
      new Promise((resolve) => {
        const credential = new Credential(source, systemClock)
        credential.read()
        const side = new ClientTls(credential, { host, verifyPeer: true, protocol: null })
        new SocketNetwork().connect(
          { kind: 'tcp', host: '127.0.0.1', port },
          5000,
          (connection) => {
            connection.startTls!(side, () => {
              outcomes.push('secured')
              connection.destroy()
            })
            connection.send([Buffer.from('secret')])
            const nothing = (): void => undefined
            const place = Buffer.alloc(100)
            const closed = (reason: StorageError | null): void =>
              resolve(reason?.message ?? 'ended')
            return { landing: () => place, landed: nothing, sent: nothing, closed }
          },
          (error) => resolve(error.message),
        )
      })
    const received: Buffer[] = []
    const impostor = tls.createServer({
      cert: readFileSync(at('pki', 'server-cert.pem')),
      key: readFileSync(at('pki', 'server-key.pem')),
    })
    impostor.on('secureConnection', (socket) => {
      socket.on('data', (bytes: Buffer) => received.push(bytes))
      socket.on('error', () => undefined)
    })
    impostor.listen(0, '127.0.0.1')
    await once(impostor, 'listening')
    const { port } = impostor.address() as net.AddressInfo
    const client = certificateFiles({ certificates: at('pki') }, 'client', '1.3')
    expect(await ask(port, client, '127.0.0.1')).to.equal('ended')
    expect(await ask(port, client, 'other.example')).to.match(/ERR_TLS_CERT_ALTNAME_INVALID/)
    // With a key no certificate will do, not even one of a known authority.
    const alice: TlsSource = { kind: 'keys', keys, user: 'alice', minVersion: '1.2' }
    expect(await ask(port, alice, null)).to.match(/^TLS: /)
    const nobody: TlsSource = { kind: 'keys', keys, user: 'nobody', minVersion: '1.2' }
    expect(await ask(port, nobody, null)).to.contain('"nobody" is not one of them')
    const strangers = new TestAuthority(at('strangers'))
    strangers.issue(at('strange'), { commonName: 'x', purpose: 'client' })
    const strange = certificateFiles({ certificates: at('strange') }, 'client', '1.3')
    expect(await ask(port, strange, '127.0.0.1')).to.match(/certificate of the server/)
    expect(outcomes).to.deep.equal(['secured'])
    expect(Buffer.concat(received).toString()).not.to.contain('secretsecret')
    impostor.close()
  })
})
