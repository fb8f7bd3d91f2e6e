import { expect } from 'chai'
import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { printable } from '../../src/cli/print.ts'
import { encodeWelcome } from '../../src/wire/hello.ts'
import { statusOf } from '../../src/wire/status.ts'
import { dst, Workshop } from '../support/process.ts'

/** Clears the screen, forges a line, and more of the kind. */
const evil = '\u001b[2J\rall is well\ndst: forged\u009b31m\u202e\u2028\u0007\t\u007f'
const shown = '\\u001b[2J\\u000dall is well\\u000adst: forged\\u009b31m\\u202e\\u2028'
const since = '2026-01-01T00:00:00.000Z'
const device = {
  path: 'far',
  type: 'remote',
  state: 'offline',
  reason: evil,
  since,
  size: null,
  children: {},
  details: { uri: `dst://${evil}/x` },
  inFlight: 0,
  lastError: { code: 'IO', message: evil },
}
const entry = { at: 0, kind: 'membership', leg: 'a', text: evil, generation: 1 }

describe('what others said, as it is printed,', () => {
  let workshop: Workshop
  beforeEach(() => (workshop = new Workshop()))
  afterEach(() => workshop.close())

  const isHarmless = (text: string): void => {
    expect(printable(text.replaceAll('\n', ''))).to.equal(text.replaceAll('\n', ''))
    expect(text).not.to.match(/^dst: forged/m)
  }

  /** A target that is not ours: it answers each path with this. */
  async function management(answers: Record<string, unknown>, code = 200): Promise<string> {
    const server = http.createServer((request, response) => {
      response.writeHead(code).end(JSON.stringify(answers[request.url!.split('/').at(-1)!]))
    })
    server.listen(join(workshop.folder, 'evil.sock'))
    await once(server, 'listening')
    workshop.later(() => server.close())
    return 'unix:evil.sock'
  }

  it('is one line each in a list of exports', async () => {
    await workshop.serve('t', {
      listeners: ['nbd', 'dst'].map((protocol) => ({ protocol, address: `unix:${protocol}` })),
      devices: { m: { type: 'memory', size: '1M' } },
      exports: { x: { device: 'm', description: evil } },
    })
    for (const protocol of ['nbd', 'dst']) {
      const uri = `${protocol}+unix:///?socket=${protocol}`
      const { stdout } = await dst(['list', uri], workshop.folder)
      isHarmless(stdout)
      expect(stdout).to.include(shown)
      const json = (await dst(['list', uri, '--json'], workshop.folder)).stdout
      isHarmless(json)
      expect((JSON.parse(json) as { description: string }[])[0]!.description).to.equal(evil)
    }
  })

  it('stays in its place in status, history and errors', async () => {
    const status = { state: 'failed', devices: { far: device }, exports: {} }
    const address = await management({ status, history: [entry] })
    for (const words of [['status'], ['volume', 'history', 'v']]) {
      const { stdout, stderr } = await dst([...words, '--management', address], workshop.folder)
      expect(stderr).not.to.include('dst: error')
      isHarmless(stdout)
      expect(stdout).to.include(shown)
      expect(stdout.match(/\n/g)).to.have.length(1)
    }
  })

  it('stays an error when a target refuses', async () => {
    const error = { code: 'INVALID', message: evil, device: '' }
    const address = await management({ history: { error } }, 400)
    const words = ['volume', 'history', 'v', '--management', address]
    const { stdout, stderr } = await dst(words, workshop.folder)
    expect(stdout).to.equal('')
    isHarmless(stderr)
    for (const line of stderr.trimEnd().split('\n')) expect(line).to.match(/^dst: error: /)
  })

  it('is harmless in the log, also to who prints its texts for people', async () => {
    const welcome = { status: statusOf('CONFIG'), depth: 0, features: 0, facts: null, text: evil }
    const server = net.createServer((socket) => {
      socket.on('error', () => undefined)
      socket.on('data', () => socket.end(encodeWelcome({ ...welcome, instance: '0'.repeat(32) })))
    })
    server.listen(join(workshop.folder, 'far'))
    await once(server, 'listening')
    workshop.later(() => server.close())
    const target = await workshop.serve('t', {
      devices: { far: { type: 'remote', uri: 'dst+unix:///x?socket=far' } },
      management: { address: 'unix:dst.sock' },
    })
    while (!target.stderr.includes('forged')) await sleep(20)
    for (const line of target.stderr.trimEnd().split('\n')) {
      const { msg } = JSON.parse(line) as { msg: string }
      expect(printable(msg.replaceAll('\n', ''))).to.equal(msg.replaceAll('\n', ''))
    }
    const { stdout } = await dst(['status', '--management', 'unix:dst.sock'], workshop.folder)
    isHarmless(stdout)
  })
})
