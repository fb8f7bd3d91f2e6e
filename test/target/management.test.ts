import { expect } from 'chai'
import http from 'node:http'
import { ManagementServer, type Manager } from '../../src/target/management.ts'
import { iso } from '../../src/target/status.ts'

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

describe('a moment in a status', () => {
  it('can be any that a record can have', () => {
    expect(iso(0)).to.equal('1970-01-01T00:00:00.000Z')
    // Beyond what a date can be: a leg's record is read with it.
    expect(iso(Number.MAX_SAFE_INTEGER)).to.equal('+275760-09-13T00:00:00.000Z')
  })
})
