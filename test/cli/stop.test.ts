import { expect } from 'chai'
import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { MiB } from '../../src/base/size.ts'
import { Command } from '../../src/nbd/codec.ts'
import { Talker } from '../nbd/talker.ts'
import { DstProcess, Workshop } from '../support/process.ts'
import { statusOf } from '../support/volume.ts'

/** Milliseconds that a stop may take by the configuration, and what a busy machine adds to that. */
const stopTimeout = 2000
const slack = 15_000
const listeners = [{ protocol: 'nbd', address: 'unix:nbd' }]
const limits = { stopTimeout }
const management = { address: 'unix:dst.sock' }

describe('a stop keeps its deadline', function () {
  let workshop: Workshop
  beforeEach(() => (workshop = new Workshop()))
  afterEach(() => workshop.close())

  const talk = (name: string): Promise<Talker> =>
    Talker.using({ kind: 'unix', path: join(workshop.folder, 'nbd') }, name, false)

  async function stops(target: DstProcess, code: number, within = stopTimeout): Promise<void> {
    const began = performance.now()
    expect(await target.stop(), target.stderr).to.equal(code)
    expect(performance.now() - began).to.be.below(within + slack)
  }

  /** A target with files for others, and one that uses them. */
  async function two(device: object): Promise<{ far: DstProcess; target: DstProcess }> {
    const file = { type: 'file', path: 'far.img', size: '64M', create: true }
    const far = await workshop.serve('far', {
      listeners: [{ protocol: 'dst', address: 'unix:far' }],
      devices: { file },
      exports: { x: { device: 'file' } },
    })
    const exports = { x: { device: 'top' } }
    const devices = { top: device }
    return {
      far,
      target: await workshop.serve('t', { listeners, limits, management, devices, exports }),
    }
  }

  const remote = { type: 'remote', uri: 'dst+unix:///x?socket=far' }

  it('with a client that never reads its replies', async () => {
    const devices = { m: { type: 'memory', size: '64M' } }
    const exports = { m: { device: 'm' } }
    const target = await workshop.serve('t', { listeners, limits, devices, exports })
    const talker = await talk('m')
    talker.socket.pause()
    for (let at = 0; at < 64; at++) talker.say(talker.request(Command.read, 0, MiB, at))
    // Others are served meanwhile, and show that those requests have arrived.
    const other = await talk('m')
    expect((await other.ask(Command.read, 0, 512)).error).to.equal(0)
    await stops(target, 1)
    expect(target.stderr).to.include('clients were cut off')
    talker.close()
  })

  it('with clients that have not said who they are', async () => {
    const target = await workshop.serve('t', {
      listeners: [...listeners, { protocol: 'dst', address: 'unix:dst' }],
      limits: { stopTimeout: 30_000 },
    })
    const greeted = await Talker.greeted({ kind: 'unix', path: join(workshop.folder, 'nbd') })
    greeted.say(Buffer.from('IHAVEOPT'))
    const half = net.connect(join(workshop.folder, 'dst'))
    half.on('error', () => undefined)
    half.write('DST1')
    await once(half, 'connect')
    await stops(target, 0, 0)
    greeted.close()
    half.destroy()
  })

  it('with a remote that hangs, requests in flight', async () => {
    const { far, target } = await two(remote)
    const talker = await talk('x')
    expect((await talker.ask(Command.write, 0, 512, 0, Buffer.alloc(512))).error).to.equal(0)
    process.kill(far.pid!, 'SIGSTOP')
    talker.say(Buffer.concat([talker.request(Command.write, 0, 512), Buffer.alloc(512)]))
    await stops(target, 1)
    talker.close()
  })

  it('with a remote that hangs and has what nobody flushed', async () => {
    const { far, target } = await two(remote)
    const talker = await talk('x')
    expect((await talker.ask(Command.write, 0, 512, 0, Buffer.alloc(512))).error).to.equal(0)
    talker.close()
    process.kill(far.pid!, 'SIGSTOP')
    await stops(target, 1)
    expect(target.stderr).to.match(/top was not flushed and closed in time/)
  })

  it('with a remote that is gone and had what nobody flushed', async () => {
    const { far, target } = await two({ ...remote, hold: 0 })
    const talker = await talk('x')
    expect((await talker.ask(Command.write, 0, 512, 0, Buffer.alloc(512))).error).to.equal(0)
    talker.close()
    await far.stop('SIGKILL')
    while (!target.stderr.includes('top is offline')) await sleep(20)
    await stops(target, 1, 0)
    expect(target.stderr).to.match(/top was not closed cleanly: it is offline and cannot be flush/)
  })

  it('with a mirror that is suspended, requests waiting', async () => {
    const { far, target } = await two({
      type: 'mirror',
      legs: { only: { ...remote, hold: 0 } },
      suspend: { time: '10m' },
    })
    const talker = await talk('x')
    expect((await talker.ask(Command.write, 0, 512, 0, Buffer.alloc(512))).error).to.equal(0)
    await far.stop('SIGKILL')
    while (!JSON.stringify(await statusOf(workshop.folder, management.address)).includes('suspend'))
      await sleep(20)
    talker.say(Buffer.concat([talker.request(Command.write, 0, 512), Buffer.alloc(512)]))
    await stops(target, 1)
    talker.close()
  })

  it('while it starts, with a remote that says nothing', async () => {
    const server = net.createServer((socket) => socket.on('error', () => undefined))
    server.listen(join(workshop.folder, 'far'))
    await once(server, 'listening')
    workshop.later(() => server.close())
    const target = new DstProcess(['serve', 't.json'], workshop.folder)
    workshop.later(() => target.stop('SIGKILL'))
    const devices = { far: { ...remote, connectTimeout: '1h' } }
    workshop.write('t', { listeners, limits, devices })
    const ready = target.start().catch(() => undefined)
    const [socket] = (await once(server, 'connection')) as [net.Socket]
    await stops(target, 0, 0)
    expect(target.stdout).not.to.include('ready')
    await ready
    socket.destroy()
  })

  it('with commands that are under way', async () => {
    const slow = { type: 'delay', operations: ['read'], min: '1h' }
    const devices = {
      m: {
        type: 'mirror',
        legs: { a: { type: 'memory', size: '8M' }, b: { type: 'memory', size: '8M' } },
      },
      slow: { ...slow, device: { type: 'memory', size: '8M' } },
    }
    const target = await workshop.serve('t', { listeners, limits, management, devices })
    const socketPath = join(workshop.folder, 'dst.sock')
    const half = net.connect(socketPath)
    half.on('error', () => undefined)
    const head = 'POST /v1/volumes/m/verify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10'
    half.write(`${head}\r\n\r\n{`)
    const verify = http.request({ socketPath, method: 'POST', path: '/v1/volumes/m/verify' })
    verify.on('error', () => undefined)
    verify.end('{"bytesPerSecond": 1}')
    await once(half, 'connect')
    await statusOf(workshop.folder, management.address)
    await stops(target, 0)
    half.destroy()
  })

  it('says with its exit code that something could not be flushed', async () => {
    const target = await workshop.serve('t', {
      listeners,
      devices: {
        bad: {
          type: 'error',
          operations: ['flush'],
          device: { type: 'memory', size: '1M' },
        },
      },
    })
    await stops(target, 1, 0)
    expect(target.stderr).to.match(/bad was not closed cleanly/)
  })
})
