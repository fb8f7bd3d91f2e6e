import { Ajv2020 } from 'ajv/dist/2020.js'
import { expect } from 'chai'
import { statSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { MiB } from '../../src/base/size.ts'
import { readSchema } from '../../src/config/schema.ts'
import { dst, dstLines, Workshop, type DstProcess } from '../support/process.ts'
import { legsReach } from '../support/volume.ts'

const management = 'unix:dst.sock'
const memory = { type: 'memory', size: '8M' }

describe('dst status', function () {
  let workshop: Workshop
  beforeEach(() => (workshop = new Workshop()))
  afterEach(() => workshop.close())

  const status = (...words: string[]) =>
    dst(['status', '--management', management, ...words], workshop.folder)

  function serve(devices: object, exports: object = {}): Promise<DstProcess> {
    return workshop.serve('t', {
      listeners: [{ protocol: 'nbd', address: '127.0.0.1:0' }],
      management: { address: management },
      devices,
      exports,
    })
  }

  const validate = new Ajv2020({
    strict: true,
    allowUnionTypes: true,
    formats: { 'date-time': true },
  }).compile(readSchema('status.schema.json'))

  it('knows no device by a name that every object has', async () => {
    await serve({ m: memory })
    for (const name of ['toString', 'constructor', '__proto__']) {
      const { stderr } = await status(name)
      expect(stderr).to.equal(`dst: error: no device is named "${name}"; there are: m\n`)
    }
  })

  it('shows the tree, by text and by the schema of its JSON', async () => {
    await serve(
      {
        m: { type: 'mirror', legs: { left: memory, right: 'named' } },
        named: { type: 'linear', parts: [memory, { type: 'log', device: memory }] },
        far: { type: 'remote', uri: 'dst://127.0.0.1:1/x' },
      },
      { home: { device: 'm' }, part: { device: 'named/1', readOnly: true } },
    )
    await legsReach(workshop.folder, management, ['in-sync'], 120_000)
    const json = await status('--json')
    const value = JSON.parse(json.stdout) as Record<string, unknown>
    expect(validate(value), JSON.stringify(validate.errors)).to.equal(true)
    expect(json.code, 'far was never there').to.equal(2)
    const text = (await status()).stdout
    expect(text).to.match(
      /^m +healthy +mirror .* export nbd:\/\/127\.0\.0\.1:\d+\/home \(0 clients\)/m,
    )
    expect(text).to.match(/^ {2}left +in-sync +memory 8\.0 MiB$/m)
    expect(text).to.match(/^ {2}right +in-sync +linear 16\.0 MiB$/m)
    expect(text).to.match(/^ {4}1 +online +log .*read only/m)
    expect(text).to.match(
      /^far +opening +remote +dst:\/\/127\.0\.0\.1:1\/x .*ECONNREFUSED.* since /m,
    )
    expect((await status('m')).code).to.equal(0)
    expect((await status('nothing')).stderr).to.include('there are: m, far')
  })

  it('exits by how well things are: 0, 1, 2, and 4 when nobody answers', async () => {
    const slow = { type: 'delay', device: memory, operations: ['read', 'write'], min: '20ms' }
    // Data at the beginning only: an image is a leg as it is.
    const image = Buffer.alloc(8 * MiB).fill(7, 0, 4 * MiB)
    writeFileSync(join(workshop.folder, 'image'), image)
    const good = { type: 'file', path: 'image' }
    expect((await status()).code).to.equal(4)
    const target = await serve({
      m: { type: 'mirror', legs: { good, bad: slow }, resync: { speed: '1M' } },
    })
    await legsReach(workshop.folder, management, ['in-sync'], 120_000)
    expect((await status()).code).to.equal(0)
    expect(
      (await dst(['leg', 'invalidate', 'm', 'bad', '--management', management], workshop.folder))
        .code,
    ).to.equal(0)
    expect((await status()).code, 'it is copied again, slowly').to.equal(1)
    expect(await target.stop()).to.equal(0)
    const { code, stderr } = await status()
    expect(code).to.equal(4)
    expect(stderr).to.match(/^dst: error: no target answers at unix:dst\.sock.*\n$/)
  })

  it('says which image was taken off, and that one leg alone cannot be compared', async () => {
    await serve(
      { m: { type: 'mirror', legs: { left: memory, right: memory } } },
      { home: { device: 'm' } },
    )
    await legsReach(workshop.folder, management, ['in-sync'], 120_000)
    const run = (...words: string[]) => dst([...words, '--management', management], workshop.folder)
    expect((await run('leg', 'detach', 'm', 'right', '--as', 'monday')).code).to.equal(0)
    const text = (await status()).stdout
    expect(text).to.match(/^m +degraded +mirror .*right is detached/m)
    expect(text).to.match(/^ {2}right +detached .*as "monday" {2}generation \d+ .*since/m)
    const verify = await run('verify', 'm')
    expect(verify.code).to.equal(1)
    expect(verify.stderr).to.include('fewer than two legs are in sync')
    expect((await run('leg', 'attach', 'm', 'right')).code).to.equal(0)
    await legsReach(workshop.folder, management, ['in-sync'], 120_000)
    expect((await run('verify', 'm')).stdout).to.include('the legs are equal')
  })

  it('watches until it is told to stop', async () => {
    await serve({ a: memory })
    const words = ['status', '--watch', '--json', '--management', management]
    const lines = await dstLines(words, workshop.folder, 2)
    expect(lines).to.have.length(2)
    for (const line of lines) expect(validate(JSON.parse(line))).to.equal(true)
  })
})

describe('the management interface', () => {
  let workshop: Workshop
  let target: DstProcess
  before(async () => {
    workshop = new Workshop()
    target = await workshop.serve('t', {
      management: { address: management },
      devices: { m: { type: 'mirror', legs: { a: memory, b: memory } }, plain: memory },
    })
  })
  after(() => workshop.close())

  const socketPath = (): string => join(workshop.folder, 'dst.sock')

  function ask(
    method: string,
    path: string,
    body = '',
    headers: http.OutgoingHttpHeaders = {},
  ): Promise<{ code: number; text: string }> {
    return new Promise((resolve, reject) => {
      const options = { socketPath: socketPath(), method, path, headers }
      const request = http.request(options, (response) => {
        let text = ''
        response.on('data', (piece: Buffer) => (text += piece.toString()))
        response.on('end', () => resolve({ code: response.statusCode ?? 0, text }))
        response.on('error', reject)
      })
      request.on('error', reject)
      request.end(body)
    })
  }

  it('is for its owner alone', () => {
    expect(statSync(socketPath()).mode & 0o777).to.equal(0o600)
  })

  it('refuses what it does not know, with a sentence', async () => {
    const cases: [string, string, string, number, string][] = [
      ['GET', '/', '', 404, 'there is nothing at /'],
      ['GET', '/v1/volumes/m/start', '', 405, 'POST'],
      ['DELETE', '/v1/status', '', 404, 'nothing'],
      ['POST', '/v1/volumes/m/strat', '', 409, 'did you mean \\"volume.start\\"?'],
      ['POST', '/v1/volumes/m/constructor', '', 409, 'no command'],
      ['POST', '/v1/volumes/m/legs/a/detach', '{"at":"x"}', 409, 'did you mean \\"as\\"?'],
      ['POST', '/v1/volumes/m/legs/a/detach', '{"as":1}', 409, '\\"as\\" is a string'],
      ['POST', '/v1/volumes/m/legs/none/detach', '{}', 409, 'none'],
      ['POST', '/v1/volumes/plain/start', '', 409, 'volumes: m'],
      ['POST', '/v1/volumes/m/start', '{', 400, 'not JSON'],
      ['POST', '/v1/volumes/m/start', '[]', 400, 'not a JSON object'],
      ['POST', '/v1/volumes/m/legs/c/add', '{}', 409, 'a leg needs a device'],
      ['POST', '/v1/volumes/m/legs/c/add', '{"device":{"type":"memry"}}', 409, 'memory'],
      ['POST', '/v1/volumes/m/legs/c/add', '{"device":"nope"}', 409, 'nope'],
      ['POST', '/v1/volumes/%zz/start', '', 400, 'percent-encoded'],
    ]
    for (const [method, path, body, code, part] of cases) {
      const answer = await ask(method, path, body)
      expect(answer, `${method} ${path} ${body}`).to.include({ code })
      expect(answer.text).to.include(part)
    }
  })

  it('gives no commands to browsers', async () => {
    const { code } = await ask('POST', '/v1/volumes/m/start', '{}', { origin: 'http://evil' })
    expect(code).to.equal(403)
  })

  it('takes no endless bodies, and survives noise', async () => {
    const long = await ask('POST', '/v1/volumes/m/start', `"${'x'.repeat(100_000)}"`).catch(
      () => null,
    )
    if (long !== null) expect(long.code).to.equal(413)
    for (const noise of [
      '\0\0\0',
      'GET',
      'GET / HTTP/9.9\r\n\r\n',
      `GET /${'a'.repeat(100_000)}`,
    ]) {
      const socket = net.connect(socketPath())
      socket.on('error', () => undefined)
      socket.end(noise)
      await sleep(20)
      socket.destroy()
    }
    expect((await ask('GET', '/v1/status')).code).to.equal(200)
    expect(target.running).to.equal(true)
  })

  it('adds and removes a leg while the volume runs', async function () {
    const command = (...words: string[]) =>
      dst([...words, '--management', management], workshop.folder)
    await legsReach(workshop.folder, management, ['in-sync'], 120_000)
    const added = await command('leg', 'add', 'm', 'c', './c.img', '--size', '16M', '--wait')
    expect(added.code, added.stderr).to.equal(0)
    const { stdout } = await command('status', 'm')
    expect(stdout).to.match(/^ {2}c +in-sync +file 16\.0 MiB +\S+c\.img/m)
    const verified = await command('verify', 'm')
    expect(verified.stdout, verified.stderr).to.include('the legs are equal')
    expect((await command('leg', 'remove', 'm', 'c')).code).to.equal(0)
    expect((await command('status', 'm')).stdout).not.to.include('c.img')
    const again = await command('leg', 'remove', 'm', 'c')
    expect(again.code).to.equal(1)
    expect(again.stderr).to.match(/^dst: error: /)
    const history = await command('volume', 'history', 'm')
    expect(history.stdout).to.match(/membership +c /)
  })
})
