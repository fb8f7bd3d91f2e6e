import { expect } from 'chai'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '../../src/base/clock.ts'
import { systemRandom } from '../../src/base/random.ts'
import { MiB } from '../../src/base/size.ts'
import { Slab } from '../../src/base/slab.ts'
import { Device } from '../../src/device/device.ts'
import { Operation, Request } from '../../src/device/request.ts'
import { parseUri } from '../../src/net/uri.ts'
import { SocketNetwork } from '../../src/net/sockets.ts'
import { NbdDriver } from '../../src/nbd/remote.ts'
import { dst, Workshop, type DstProcess } from '../support/process.ts'
import { freePorts } from '../support/ports.ts'

const memory = { type: 'memory', size: '16M' }

/** An export as a device of this process. */
async function attach(uri: string): Promise<Device> {
  const found = parseUri(uri)
  if (typeof found === 'string') throw new Error(found)
  const world = {
    network: new SocketNetwork(),
    slab: new Slab(),
    clock: systemClock,
    random: systemRandom,
  }
  const { address, name } = found
  const device = new Device('test', new NbdDriver({ address, name, hold: 0 }, world), systemClock)
  await device.open()
  return device
}

/** Starts a request; resolves when it completed. The request is released. */
function run(device: Device, operation: Operation, offset: number, length: number, fill = 0) {
  return new Promise<{ error: string | null; bytes: Buffer }>((resolve) => {
    const request = Request.take(operation, offset, length, 0, {
      completed(done) {
        const bytes = Buffer.alloc(operation === Operation.read ? length : 0)
        if (done.error === null) done.copyTo(bytes)
        const error = done.error?.code ?? null
        done.release()
        resolve({ error, bytes })
      },
    })
    if (operation === Operation.write) request.append(Buffer.alloc(length, fill), null)
    device.submit(request)
  })
}

function urisOf({ stdout }: DstProcess, name: string): string[] {
  return [...stdout.matchAll(/^(\S+) {2}(\S+:\/\/\S+)$/gm)]
    .filter((found) => found[1] === name)
    .map((found) => found[2]!)
}

describe('dst serve', () => {
  let workshop: Workshop
  beforeEach(() => (workshop = new Workshop()))
  afterEach(() => workshop.close())

  const path = (name: string): string => join(workshop.folder, name)
  const listeners = [
    { protocol: 'nbd', address: '127.0.0.1:0' },
    { protocol: 'nbd', address: 'unix:sockets/nbd.sock' },
    { protocol: 'dst', address: '[::1]:0' },
  ]

  it('prints where each export is, with the ports that were chosen', async () => {
    const target = await workshop.serve('t', {
      listeners,
      devices: { a: memory },
      exports: { x: { device: 'a' }, '': { device: 'a' } },
    })
    const [tcp = '', unix = '', native = '', ...more] = urisOf(target, 'x')
    expect(more).to.deep.equal([])
    expect(tcp).to.match(/^nbd:\/\/127\.0\.0\.1:[1-9]\d*\/x$/)
    expect(unix).to.equal(`nbd+unix:///x?socket=${path('sockets/nbd.sock')}`)
    expect(native).to.match(/^dst:\/\/\[::1\]:[1-9]\d*\/x$/)
    expect(urisOf(target, '""')).to.have.length(3)
    for (const uri of [tcp, unix]) {
      const device = await attach(uri)
      expect(device.facts?.size).to.equal(16 * MiB)
      await device.close()
    }
    expect(await target.stop()).to.equal(0)
    expect(existsSync(path('sockets/nbd.sock'))).to.equal(false)
  })

  it('makes files and their directories, and keeps what was flushed', async () => {
    const config = {
      listeners: [listeners[1]],
      devices: { a: { type: 'file', path: 'deep/er/a.img', size: '4M', create: true } },
      exports: { a: { device: 'a' } },
    }
    const target = await workshop.serve('t', config)
    const [uri = ''] = urisOf(target, 'a')
    const device = await attach(uri)
    expect((await run(device, Operation.write, MiB, 8192, 7)).error).to.equal(null)
    // Not flushed by the client: the stop does.
    await device.close()
    expect(await target.stop(), target.stderr).to.equal(0)
    const bytes = readFileSync(path('deep/er/a.img'))
    expect(bytes.length).to.equal(4 * MiB)
    expect(bytes.subarray(MiB, MiB + 8192).every((byte) => byte === 7)).to.equal(true)
  })

  it('finishes what is in flight at SIGTERM, and takes nothing new', async () => {
    const target = await workshop.serve('t', {
      listeners: [listeners[0], listeners[1]],
      devices: { slow: { type: 'delay', device: memory, operations: ['write'], min: '700ms' } },
      exports: { slow: { device: 'slow' } },
    })
    const [tcp = '', uri = ''] = urisOf(target, 'slow')
    const device = await attach(uri)
    const writes = Array.from({ length: 8 }, (_, at) =>
      run(device, Operation.write, at * 4096, 4096, 1),
    )
    // A read that was answered shows that the writes before it have arrived.
    expect((await run(device, Operation.read, MiB, 4096)).error).to.equal(null)
    const over = target.stop()
    expect((await Promise.all(writes)).map(({ error }) => error)).to.deep.equal(
      writes.map(() => null),
    )
    expect(await over, target.stderr).to.equal(0)
    const { port, hostname: host } = new URL(tcp)
    const socket = net.connect({ port: Number(port), host })
    const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
    expect(error.code).to.equal('ECONNREFUSED')
    await device.close()
  })

  it('cuts off what takes longer than stopTimeout, and says so', async () => {
    const target = await workshop.serve('t', {
      listeners: [listeners[1]],
      devices: { slow: { type: 'delay', device: memory, operations: ['write'], min: '1h' } },
      exports: { slow: { device: 'slow' } },
      limits: { stopTimeout: '400ms' },
    })
    const device = await attach(urisOf(target, 'slow')[0]!)
    const write = run(device, Operation.write, 0, 4096)
    expect((await run(device, Operation.read, 0, 4096)).error).to.equal(null)
    const began = performance.now()
    expect(await target.stop()).to.equal(1)
    expect(performance.now() - began).to.be.lessThan(60_000)
    expect(target.stderr).to.include('clients were cut off')
    expect((await write).error).not.to.equal(null)
    await device.close()
  })

  it('ends at once at the second signal', async () => {
    const target = await workshop.serve('t', {
      listeners: [listeners[1]],
      devices: { slow: { type: 'delay', device: memory, operations: ['write'], min: '1h' } },
      exports: { slow: { device: 'slow' } },
    })
    const device = await attach(urisOf(target, 'slow')[0]!)
    const write = run(device, Operation.write, 0, 4096)
    expect((await run(device, Operation.read, 0, 4096)).error).to.equal(null)
    process.kill(target.pid!, 'SIGINT')
    while (!target.stderr.includes('"stopping"')) await sleep(20)
    expect(await target.stop()).to.equal(1)
    await write
    await device.close()
  })

  it('lives on after SIGHUP, and says what it does not do', async () => {
    const target = await workshop.serve('t', { listeners: [listeners[1]] })
    process.kill(target.pid!, 'SIGHUP')
    while (!target.stderr.includes('reading the files of credentials')) await sleep(20)
    expect(await target.stop()).to.equal(0)
  })

  it('starts while a remote is away, and serves the rest', async () => {
    const [port = 0] = await freePorts(1)
    const target = await workshop.serve('t', {
      listeners: [listeners[1]],
      devices: { far: { type: 'remote', uri: `dst://127.0.0.1:${port}/x` }, near: memory },
      exports: { far: { device: 'far' }, near: { device: 'near' } },
    })
    const device = await attach(urisOf(target, 'near')[0]!)
    expect((await run(device, Operation.read, 0, 4096)).error).to.equal(null)
    await device.close()
    expect(await target.stop()).to.equal(0)
  })

  it('names the device in the log when it fails, a few times of many', async () => {
    const target = await workshop.serve('t', {
      listeners: [listeners[1]],
      devices: {
        bad: { type: 'error', device: memory, operations: ['write'], code: 'NO_SPACE' },
      },
      exports: { bad: { device: 'bad' } },
    })
    const device = await attach(urisOf(target, 'bad')[0]!)
    for (let at = 0; at < 50; at++)
      expect((await run(device, Operation.write, 0, 4096)).error).to.equal('NO_SPACE')
    await device.close()
    expect(await target.stop()).to.equal(0)
    const lines = target.stderr.split('\n').filter((line) => line.includes('NO_SPACE'))
    expect(lines).to.have.length(1)
    expect(JSON.parse(lines[0]!)).to.include({ device: 'bad', level: 50 })
  })

  it('exits 2 for an address in use, with nothing opened or made', async () => {
    const first = await workshop.serve('first', { listeners: [listeners[0], listeners[1]] })
    const socket = net.createServer().listen(0, '127.0.0.1')
    await once(socket, 'listening')
    const taken = (socket.address() as net.AddressInfo).port
    writeFileSync(
      path('second.json'),
      JSON.stringify({
        listeners: [{ protocol: 'nbd', address: `127.0.0.1:${taken}` }, listeners[1]],
        devices: { a: { type: 'file', path: 'made/a.img', size: '1M', create: true } },
      }),
    )
    const { code, stderr } = await dst(['serve', 'second.json'], workshop.folder)
    socket.close()
    expect(code).to.equal(2)
    const lines = stderr.split('\n').filter((line) => line.startsWith('dst: error: '))
    expect(lines).to.have.length(2)
    for (const line of lines) expect(line).to.include('EADDRINUSE')
    expect(existsSync(path('made'))).to.equal(false)
    expect(await first.stop()).to.equal(0)
  })

  it('exits 1 for an address that may be there in a moment', async () => {
    const addresses = ['192.0.2.1:10809', 'no.such.host.invalid:10809']
    for (const address of addresses) {
      workshop.write('early', {
        listeners: [{ protocol: 'nbd', address, open: true }],
        devices: { a: memory },
      })
      const { code, stderr } = await dst(['serve', 'early.json'], workshop.folder)
      expect(code, stderr).to.equal(1)
      expect(stderr).to.include(`dst: error: listening on ${address}`)
    }
    const taken = net.createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const { port } = taken.address() as net.AddressInfo
    const both = [addresses[0], `127.0.0.1:${port}`]
    workshop.write('both', { listeners: both.map((address) => ({ protocol: 'nbd', address })) })
    const { code, stderr } = await dst(['serve', 'both.json'], workshop.folder)
    taken.close()
    expect(code, stderr).to.equal(2)
  })

  it('serves the rest while a file cannot be opened, and that one when it can', async () => {
    const path = 'usb/a.img'
    const target = await workshop.serve('t', {
      listeners: [listeners[1]],
      management: { address: 'unix:dst.sock' },
      devices: { away: { type: 'file', path }, good: memory },
      exports: { away: { device: 'away' }, good: { device: 'good' } },
    })
    const good = await attach(urisOf(target, 'good')[0]!)
    expect((await run(good, Operation.write, 0, 4096)).error).to.equal(null)
    await good.close()
    const status = () => dst(['status', '--management', 'unix:dst.sock'], workshop.folder)
    const { code, stdout } = await status()
    expect(code).to.equal(2)
    expect(stdout).to.match(/^away +opening +file .*usb\/a\.img is not there/m)
    mkdirSync(join(workshop.folder, 'usb'))
    writeFileSync(join(workshop.folder, path), Buffer.alloc(MiB))
    while ((await status()).code !== 0) await sleep(200)
    const away = await attach(urisOf(target, 'away')[0]!)
    expect((await run(away, Operation.write, 0, 4096)).error).to.equal(null)
    await away.close()
    expect(await target.stop(), target.stderr).to.equal(0)
  })

  it('leaves a unix socket of a dead target behind, and takes it over', async () => {
    const target = await workshop.serve('t', { listeners: [listeners[1]], devices: {} })
    await target.stop('SIGKILL')
    expect(statSync(path('sockets/nbd.sock')).isSocket()).to.equal(true)
    await target.start()
    expect(await target.stop()).to.equal(0)
  })
})
