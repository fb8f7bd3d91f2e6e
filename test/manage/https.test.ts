import { expect } from 'chai'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import https from 'node:https'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import tls from 'node:tls'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { checkConfig } from '../../src/config/config.ts'
import { Credentials } from '../../src/daemon/credentials.ts'
import { Gate } from '../../src/manage/gate.ts'
import { ManagementServer, type Manager } from '../../src/manage/management.ts'
import { lineOfToken } from '../../src/net/tokens.ts'
import { makePki, TestAuthority } from '../support/authority.ts'
import { needPrograms } from '../support/programs.ts'

interface Asked {
  readonly method?: string
  readonly path?: string
  /** The folder with the certificate of the client; null: it shows none. */
  readonly as?: string | null
  readonly token?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly agent?: https.Agent
}

describe('the management interface over https', () => {
  let folder: string
  let authority: TestAuthority
  let server: ManagementServer
  let credentials: Credentials
  let port: number
  let told: string[]
  const runs: string[] = []
  const sockets: net.Socket[] = []
  const manager: Manager = {
    status: () => ({ state: 'healthy' }),
    run: (command, _names, _options, peer) => Promise.resolve(void runs.push(`${command} ${peer}`)),
  }

  before(function () {
    needPrograms(this, 'openssl')
    folder = mkdtempSync(join(tmpdir(), 'dst-https-'))
    authority = makePki(folder)
    const names = 'DNS:target.example,DNS:localhost,IP:127.0.0.1'
    authority.issue(join(folder, 'pki'), { commonName: 'server', names, purpose: 'server' })
    const issue = (name: string, days = 30): unknown =>
      authority.issue(join(folder, name), { commonName: name, purpose: 'client', days })
    for (const name of ['ops', 'looker', 'stranger', 'sacked']) issue(name)
    issue('late', -1)
    const other = new TestAuthority(join(folder, 'elsewhere'))
    other.issue(join(folder, 'foreign'), { commonName: 'ops', purpose: 'client' })
    authority.revoke(null, join(folder, 'pki'))
    const lines = [lineOfToken('v', 'view', 'viewing'), lineOfToken('m', 'manage', 'managing')]
    writeFileSync(join(folder, 'tokens'), lines.join('\n'), { mode: 0o600 })
  })
  after(() => rmSync(folder, { recursive: true, force: true }))

  beforeEach(async () => {
    told = []
    runs.length = 0
    const { config } = checkConfig({ credentials: { lan: { certificates: 'pki' } } }, folder)
    credentials = new Credentials(config, systemClock, silentLog)
    const named = (commonName: string, role: 'view' | 'manage') => ({
      certificate: { commonName },
      role,
    })
    const rules = [named('ops', 'manage'), named('looker', 'view'), named('sacked', 'manage')]
    const gate = new Gate(rules, credentials.tokensIn(join(folder, 'tokens')), systemClock)
    const log = {
      ...silentLog,
      info: (fields: object, message: string) =>
        void told.push(`${message} ${JSON.stringify(fields)}`),
    }
    server = new ManagementServer(manager, log, {
      tls: credentials.managementTls('lan', 'wanted'),
      gate,
    })
    const address = await server.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 })
    port = address.kind === 'tcp' ? address.port : 0
  })
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy()
    server.close()
  })

  const pem = (...parts: readonly string[]): Buffer => readFileSync(join(folder, ...parts))

  /** The status and text of the answer. */
  function ask({ method = 'GET', path = '/v1/status', as = null, token, headers, agent }: Asked) {
    const pair =
      as === null ? {} : { cert: pem(as, 'client-cert.pem'), key: pem(as, 'client-key.pem') }
    const sent = {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...headers,
    }
    const name = { servername: 'localhost' }
    const options = {
      port,
      method,
      path,
      headers: sent,
      ...name,
      ca: pem('pki', 'ca-cert.pem'),
      ...pair,
    }
    const way = agent === undefined ? {} : { agent }
    return new Promise<{ status: number; text: string }>((resolve, reject) => {
      const request = https.request({ ...options, ...way }, (response) => {
        let text = ''
        response.on('data', (piece: Buffer) => (text += piece.toString()))
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
      })
      request.on('error', reject)
      request.end()
    })
  }

  const detach = { method: 'POST', path: '/v1/volumes/home/legs/left/detach' }

  it('lets in by a certificate that a rule is for, and by no other', async () => {
    expect((await ask({ as: 'ops' })).status).to.equal(200)
    expect((await ask({ as: 'ops', ...detach })).status).to.equal(200)
    expect(runs[0]).to.match(/^leg\.detach 127\.0\.0\.1:\d+ \(x509:ops\)$/)
    for (const [as, why] of [
      ['stranger', /Authorization: Bearer/],
      ['late', /certificate has expired/],
      ['foreign', /unable to/],
      [null, /shown no certificate/],
    ] as const) {
      const { status, text } = await ask({ as, ...detach })
      expect(status, String(as)).to.equal(401)
      expect(text).to.match(why).and.not.contain('home')
      // Nor does it learn what there is.
      expect((await ask({ as, path: '/nothing' })).status).to.equal(401)
    }
    expect(runs).to.have.length(1)
    expect(told.filter((line) => line.includes('"status":401'))).to.have.length(8)
  })

  it('lets in by a token, and looks no further where one is wrong', async () => {
    expect((await ask({ token: 'viewing' })).status).to.equal(200)
    expect((await ask({ token: 'managing', ...detach })).status).to.equal(200)
    expect(runs[0]).to.contain('(token:m)')
    const { status, text } = await ask({ as: 'ops', token: 'guessed' })
    expect(status).to.equal(401)
    expect(text).to.contain('the token is not one that is known').and.not.contain('guessed')
    // A certificate that proves nothing does not take anything from a token.
    expect((await ask({ as: 'foreign', token: 'viewing' })).status).to.equal(200)
    expect(told.join()).to.not.contain('guessed')
  })

  it('lets those who may view look at everything, and give no command', async () => {
    for (const who of [{ as: 'looker' }, { token: 'viewing' }]) {
      expect((await ask(who)).status).to.equal(200)
      expect((await ask({ ...who, path: '/v1/volumes/home/history' })).status).to.equal(200)
      for (const path of [detach.path, '/v1/volumes/home/history', '/v1/status', '/nothing'])
        for (const method of ['POST', 'PUT', 'DELETE', 'PATCH'])
          expect((await ask({ ...who, method, path })).status, `${method} ${path}`).to.equal(403)
      expect((await ask({ ...who, path: detach.path })).status).to.equal(405)
    }
    expect(runs.filter((run) => !run.startsWith('volume.history'))).to.deep.equal([])
  })

  it('looks at few wrong tokens of one address', async () => {
    for (let at = 0; at < 10; at++)
      expect((await ask({ token: `guess${at}` })).status).to.equal(401)
    expect((await ask({ token: 'managing' })).status).to.equal(429)
    // Who shows a certificate is not kept out by that.
    expect((await ask({ as: 'ops' })).status).to.equal(200)
  })

  it('is for names of its certificate, and for no page in a browser', async () => {
    for (const [headers, status] of [
      [{ host: `localhost:${port}` }, 200],
      [{ host: '127.0.0.1' }, 200],
      [{ host: `target.example:${port}` }, 200],
      [{ host: 'evil.example' }, 403],
      [{ host: 'localhost.evil.example' }, 403],
      [{ host: `${'x'.repeat(8000)}.example` }, 403],
      [{ origin: `https://localhost:${port}` }, 403],
      [{ 'sec-fetch-site': 'cross-site' }, 403],
      [{ 'sec-fetch-site': 'none' }, 200],
    ] as const)
      expect((await ask({ as: 'ops', headers })).status, JSON.stringify(headers)).to.equal(status)
  })

  it('goes on with new files, and ends what a certificate that is revoked let in', async () => {
    const agent = new https.Agent({ keepAlive: true, maxSockets: 1 })
    expect((await ask({ as: 'sacked', agent })).status).to.equal(200)
    const [free] = Object.values(agent.freeSockets)
    const closed = once(free![0]!, 'close')
    authority.revoke(join(folder, 'sacked', 'client-cert.pem'), join(folder, 'pki'))
    await credentials.look()
    await closed
    const { status, text } = await ask({ as: 'sacked' })
    expect(status).to.equal(401)
    expect(text).to.contain('certificate revoked')
    expect((await ask({ as: 'ops' })).status).to.equal(200)
    agent.destroy()
  })

  it('takes tokens that were replaced, and keeps what it had for a broken file', async () => {
    const path = join(folder, 'tokens')
    const before = readFileSync(path)
    const agent = new https.Agent({ keepAlive: true, maxSockets: 1 })
    const view = async (token: string): Promise<number> => (await ask({ token, agent })).status
    expect(await view('viewing')).to.equal(200)
    writeFileSync(path, lineOfToken('new', 'view', 'renewed'))
    await credentials.look()
    expect(await view('renewed')).to.equal(200)
    expect(await view('viewing'), 'also on a connection that is open').to.equal(401)
    writeFileSync(path, 'dst_broken')
    await credentials.look()
    expect(await view('renewed')).to.equal(200)
    const [problem] = credentials.status.flatMap(({ role, warning }) =>
      role === 'tokens' ? [warning] : [],
    )
    expect(problem).to.match(/tokens: line 1: .*; what was read before stays in force$/)
    expect(problem).to.not.contain('dst_broken')
    // A file without a line is one that lets nobody in.
    writeFileSync(path, '')
    await credentials.look()
    expect(await view('renewed')).to.equal(401)
    writeFileSync(path, before)
    agent.destroy()
  })

  async function connect(): Promise<net.Socket> {
    const socket = net.connect(port, '127.0.0.1').on('error', () => undefined)
    sockets.push(socket)
    await once(socket, 'connect')
    return socket
  }

  /** A connection under TLS. */
  async function secured(): Promise<tls.TLSSocket> {
    const socket = tls.connect({ port, ca: pem('pki', 'ca-cert.pem'), host: 'localhost' })
    sockets.push(socket.on('error', () => undefined))
    await once(socket, 'secureConnect')
    return socket
  }

  for (const [manner, act] of [
    ['begin no handshake', () => undefined],
    [
      'begin half a handshake',
      (socket: net.Socket) => socket.write(Buffer.from('1603010200', 'hex')),
    ],
    ['speak without TLS', (socket: net.Socket) => socket.write('GET /v1/status HTTP/1.1\r\n\r\n')],
  ] as const)
    it(`is there beside strangers who ${manner}, however many those are`, async () => {
      for (let at = 0; at < 150; at++) act(await connect())
      expect((await ask({ as: 'ops' })).status).to.equal(200)
    })

  it('is there beside strangers who say half a request under TLS', async () => {
    for (let at = 0; at < 80; at++) (await secured()).write('GET /v1/status HTTP/1.1\r\nHos')
    expect((await ask({ as: 'ops' })).status).to.equal(200)
  })

  it('takes up no earlier session, whose certificate may be revoked by now', async () => {
    const pair = { cert: pem('ops', 'client-cert.pem'), key: pem('ops', 'client-key.pem') }
    const options = { port, host: 'localhost', ca: pem('pki', 'ca-cert.pem'), ...pair }
    const get = 'GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
    let session: Buffer | undefined
    for (let at = 0; at < 2; at++) {
      const socket = tls.connect({ ...options, ...(session && { session }) })
      socket.on('session', (made) => (session = made))
      await once(socket, 'secureConnect')
      expect(socket.isSessionReused()).to.equal(false)
      socket.write(get)
      socket.resume()
      await once(socket, 'close')
    }
  })

  it('closes the connections of the peer that has the most', async () => {
    const idle = await secured()
    for (let at = 0; at < 100; at++) {
      const socket = net.connect({ port, host: '127.0.0.1', localAddress: '127.0.0.9' })
      sockets.push(socket.on('error', () => undefined))
      await once(socket, 'connect')
    }
    // Its answer says that it is still there.
    idle.write(
      'GET /v1/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer viewing\r\n\r\n',
    )
    const [bytes] = (await once(idle, 'data')) as [Buffer]
    expect(bytes.toString()).to.match(/^HTTP\/1\.1 200 /)
  })

  it('answers one request of a connection at a time', async () => {
    const socket = await secured()
    let text = ''
    socket.on('data', (piece: Buffer) => (text += piece.toString('latin1')))
    const get =
      'GET /v1/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer viewing\r\n\r\n'
    socket.write(get.repeat(100))
    await once(socket, 'close')
    expect(text.match(/HTTP\/1\.1 200/g)).to.have.length(1)
  })

  it('ends handshakes and requests that do not come to their end', async () => {
    const half = async (text: string): Promise<tls.TLSSocket> => {
      const socket = await secured()
      socket.write(text)
      return socket.resume()
    }
    const post = 'POST /v1/volumes/home/verify HTTP/1.1\r\nHost: localhost\r\n'
    const all = [
      await connect(),
      await half('GET /v1/sta'),
      await half(`${post}Authorization: Bearer managing\r\nContent-Length: 10\r\n\r\n{`),
      await half(`${post}Content-Length: 10\r\n\r\n{`),
    ]
    for (const socket of all) if (!socket.destroyed) await once(socket, 'close')
    expect(runs).to.deep.equal([])
  })
})
