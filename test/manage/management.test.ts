import { expect } from 'chai'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import { silentLog } from '../../src/base/log.ts'
import { ManagementServer, type Manager } from '../../src/manage/management.ts'
import { SharedAnswer } from '../../src/manage/shared-answer.ts'
import { iso } from '../../src/manage/status.ts'

const manager: Manager = {
  status: () => ({ state: 'healthy' }),
  run: (command, names) => Promise.resolve({ command, ...names }),
}

describe('the management interface', () => {
  let server: ManagementServer
  let port: number
  beforeEach(async () => {
    server = new ManagementServer(manager)
    const address = await server.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 })
    port = address.kind === 'tcp' ? address.port : 0
  })
  afterEach(() => server.close())

  /** The status and text of the answer. */
  function ask(method: string, path: string, headers: http.OutgoingHttpHeaders = {}) {
    return new Promise<{ status: number; text: string }>((resolve, reject) => {
      const request = http.request({ port, method, path, headers }, (response) => {
        let text = ''
        response.on('data', (piece: Buffer) => (text += piece.toString()))
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
      })
      request.on('error', reject)
      request.end()
    })
  }

  for (const path of ['//', '///x', '//[', '/\\\\', '/v1//status', '*', 'http://[/v1/status'])
    it(`answers that there is nothing at ${path}, and lives on`, async () => {
      expect((await ask('GET', path)).status).to.equal(404)
      expect((await ask('GET', '/v1/status?when=now')).status).to.equal(200)
    })

  it('takes names as they were sent', async () => {
    const { text } = await ask('POST', '/v1/volumes/home%2Fright/legs/%2e%2e/detach')
    expect(JSON.parse(text)).to.deep.equal({
      command: 'leg.detach',
      volume: 'home/right',
      leg: '..',
    })
    expect((await ask('POST', '/v1/volumes/%zz/history')).status).to.equal(400)
  })

  it('takes a command on one export for none on all', async () => {
    const commandOf = async (path: string): Promise<unknown> =>
      (JSON.parse((await ask('POST', path)).text) as { command: string }).command
    const all = await commandOf('/v1/claims/reset')
    for (const verb of ['reset', 'resetAll', 'claims.reset', ''])
      expect(await commandOf(`/v1/exports/home/claim/${verb}`)).to.equal(`claim.${verb}`)
    expect(String(all)).to.not.match(/^claim\./)
  })

  it('refuses options that are nested too deep to be written into a log', async () => {
    const written: string[] = []
    const listening = new ManagementServer({
      ...manager,
      run: (_command, _names, options) =>
        Promise.resolve(void written.push(JSON.stringify(options))),
    })
    const address = await listening.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 })
    const url = `http://127.0.0.1:${address.kind === 'tcp' ? address.port : 0}/v1/volumes/a/start`
    const headers = { 'content-type': 'application/json' }
    for (const [open, close] of [
      ['[', ']'],
      ['{"a":', '}'],
    ] as const) {
      const body = `{"device":${open.repeat(10_000)}1${close.repeat(10_000)}}`
      const { status } = await fetch(url, { method: 'POST', headers, body })
      expect(status).to.equal(400)
    }
    const fine = { method: 'POST', headers, body: '{"device":[[[1]]]}' }
    expect((await fetch(url, fine)).status).to.equal(200)
    expect(written).to.have.length(1)
    listening.close()
  })

  it('says who is refused, and who gives commands', async () => {
    const told: object[] = []
    const log = { ...silentLog, info: (fields: object) => void told.push(fields) }
    const peers: string[] = []
    const listening = new ManagementServer(
      { ...manager, run: (...[, , , peer]) => Promise.resolve(void peers.push(peer)) },
      log,
    )
    const address = await listening.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 })
    const port = address.kind === 'tcp' ? address.port : 0
    const url = `http://127.0.0.1:${port}/v1/volumes/home/start`
    await fetch(url, { method: 'POST' })
    expect(peers[0]).to.match(/^127\.0\.0\.1:\d+$/)
    await fetch(url)
    await fetch(url, { method: 'POST', headers: { origin: 'http://evil.example' } })
    expect(told.map((fields) => 'status' in fields && fields.status)).to.deep.equal([405, 403])
    for (const fields of told)
      expect(fields)
        .to.have.property('peer')
        .that.matches(/^127\.0\.0\.1:\d+$/)
    listening.close()
  })

  it('tells a page in a browser nothing, whatever name it reached us by', async () => {
    const cases: [http.OutgoingHttpHeaders, number][] = [
      [{ origin: 'null' }, 403],
      [{ origin: 'http://127.0.0.1' }, 403],
      [{ host: 'evil.example' }, 403],
      [{ host: `evil.example:${port}` }, 403],
      [{ host: '127.0.0.1.evil.example' }, 403],
      [{ host: '[::1].evil.example' }, 403],
      [{ host: `127.0.0.1:${port}` }, 200],
      [{ host: '[::1]:4471' }, 200],
      [{ host: 'localhost' }, 200],
    ]
    for (const [headers, status] of cases)
      expect((await ask('GET', '/v1/status', headers)).status, JSON.stringify(headers)).to.equal(
        status,
      )
  })
})

describe('commands over TCP', () => {
  it('are no forms of a page in a browser', async () => {
    const server = new ManagementServer(manager)
    const address = await server.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 })
    const port = address.kind === 'tcp' ? address.port : 0
    const url = `http://127.0.0.1:${port}/v1/volumes/home/legs/left/detach`
    const send = async (type: string | null): Promise<number> =>
      (
        await fetch(url, {
          method: 'POST',
          body: new Blob(['{}'], type === null ? {} : { type }),
          headers: type === null ? {} : { 'content-type': type },
        })
      ).status
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data'])
      expect(await send(type), type).to.equal(415)
    for (const type of ['application/json', 'application/json; charset=utf-8', null])
      expect(await send(type), String(type)).to.equal(200)
    server.close()
  })
})

describe('an answer that is shared', () => {
  it('is made once for all who ask at once, and is never older than the question', async () => {
    let made = 0
    const answer = new SharedAnswer(() => ++made)
    const first = await Promise.all(Array.from({ length: 20 }, () => answer.get()))
    expect(new Set(first).size).to.equal(1)
    const second = await Promise.all(Array.from({ length: 20 }, () => answer.get()))
    expect(second.map(String)).to.deep.equal(new Array(20).fill('2\n'))
  })
})

describe('a moment in a status', () => {
  it('can be any that a record can have', () => {
    expect(iso(0)).to.equal('1970-01-01T00:00:00.000Z')
    // Beyond what a date can be: a leg's record is read with it.
    expect(iso(Number.MAX_SAFE_INTEGER)).to.equal('+275760-09-13T00:00:00.000Z')
  })
})

describe('the management interface beside strangers who', () => {
  const longText = 'x'.repeat(1 << 20)
  let server: ManagementServer
  let port: number
  let made: number
  let under: number
  const sockets: net.Socket[] = []
  beforeEach(async () => {
    made = 0
    under = 0
    server = new ManagementServer({
      status: () => {
        made++
        return { longText, made }
      },
      run: async () => {
        under++
        await new Promise(() => undefined)
      },
    })
    const address = await server.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 })
    port = address.kind === 'tcp' ? address.port : 0
  })
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy()
    server.close()
  })

  async function connect(): Promise<net.Socket> {
    const socket = net.connect(port, '127.0.0.1').on('error', () => undefined)
    sockets.push(socket)
    await once(socket, 'connect')
    return socket
  }

  const get = 'GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n'
  const post = 'POST /v1/volumes/home/verify HTTP/1.1\r\nHost: localhost\r\n'

  it('ask a thousand times in one packet are answered once, and closed', async () => {
    const socket = await connect()
    let text = ''
    socket.on('data', (piece: Buffer) => (text += piece.toString('latin1')))
    socket.write(get.repeat(1000))
    await once(socket, 'close')
    expect(text.match(/HTTP\/1\.1 200/g)).to.have.length(1)
    expect(text).to.match(/connection: close/i)
    expect(made).to.equal(1)
  })

  it('ask thousands of times in one packet have few of them looked at', async () => {
    let parsed = 0
    const count = (): void => {
      parsed++
    }
    subscribe('http.server.request.start', count)
    const socket = await connect()
    socket.resume()
    socket.write(get.repeat(1500))
    await once(socket, 'close')
    unsubscribe('http.server.request.start', count)
    expect(parsed).to.be.within(2, 100)
  })

  it('expect what nobody knows are answered like others', async () => {
    const socket = await connect()
    let text = ''
    socket.on('data', (piece: Buffer) => (text += piece.toString('latin1')))
    socket.write(get.replace('Host', 'Expect: nothing\r\nHost').repeat(20))
    await once(socket, 'close')
    expect(text.match(/HTTP\/1\.1 \d+/g)).to.deep.equal(['HTTP/1.1 200'])
  })

  for (const [manner, text] of [
    ['say nothing', ''],
    ['say half a request', get.slice(0, 30)],
    ['never send the body', `${post}Content-Length: 10\r\n\r\n{`],
    ['read no answer', get],
  ] as const)
    it(`${manner}: others get their answers, however many those are`, async () => {
      for (let at = 0; at < 80; at++) {
        const socket = await connect()
        socket.pause()
        socket.write(text)
      }
      const response = await fetch(`http://127.0.0.1:${port}/v1/status`)
      expect(response.status).to.equal(200)
      await response.text()
    })

  it('connect while commands are carried out: those are not cut off', async () => {
    const first = await connect()
    first.write(`${post}\r\n`)
    while (under === 0) await new Promise(setImmediate)
    for (let at = 0; at < 80; at++) await connect()
    await fetch(`http://127.0.0.1:${port}/v1/status`)
    expect(first.destroyed).to.equal(false)
    expect(first.readyState).to.equal('open')
  })
})
