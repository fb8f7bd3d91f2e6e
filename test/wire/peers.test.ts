import { expect } from 'chai'
import { KiB, MiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import { read, write } from '../support/io.ts'
import { ManualClock, StuckClock, tickingClock } from '../support/clock.ts'
import { Sink } from '../support/sink.ts'
import { Command, Kind } from '../../src/wire/codec.ts'
import { decodeFacts } from '../../src/wire/hello.ts'
import { listExports } from '../../src/wire/list.ts'
import { statusOf, statusOk } from '../../src/wire/status.ts'
import { GateDriver as SlowDriver } from '../nbd/gate.ts'
import { GateDriver } from './gate.ts'
import { hello, RawClient, request } from './raw.ts'
import { clientContext, remote, Target } from './rig.ts'

import { block, greeted, size, started } from './peer.ts'

describe('a server and a client of its own making', () => {
  let target: Target
  let gate: GateDriver

  before(async () => {
    ;({ target, gate } = await started({ limits: { payload: 64 * KiB } }))
    target.exports.set('readable', target.exports.find('disk')!.device, true)
  })

  after(() => target.stop())

  it('answers a hello that it cannot accept, and closes', async () => {
    for (const [changes, code] of [
      [{ name: 'none' }, 'CONFIG'],
      [{ purpose: 9 }, 'UNSUPPORTED'],
    ] as const) {
      const client = await RawClient.connect(target.tcp)
      client.send(hello(changes))
      const welcome = await client.welcome()
      expect(welcome.status).to.equal(statusOf(code))
      expect(welcome.text).to.not.equal('')
      await client.closed
    }
  })

  it('says which version it speaks', async () => {
    const client = await RawClient.connect(target.tcp)
    const newer = hello()
    newer.writeUInt16LE(2, 8)
    newer.writeUInt16LE(3, 10)
    client.send(newer)
    expect((await client.welcome()).status).to.equal(statusOf('UNSUPPORTED'))
    await client.closed
  })

  it('closes on what is no hello', async () => {
    const wrong = hello()
    wrong[30]! ^= 1
    const long = hello()
    long.writeUInt32LE(100_000, 12)
    for (const bytes of [Buffer.from('GET / HTTP/1.1\r\n\r\n'), wrong, long]) {
      const client = await RawClient.connect(target.tcp)
      client.send(bytes)
      await client.closed
    }
  })

  it('refuses what is out of range, too large or unknown, and goes on', async () => {
    const client = await greeted(target)
    const large = Buffer.alloc(64 * KiB + 1)
    const cases: readonly (readonly [Buffer, Parameters<typeof statusOf>[0]])[] = [
      [request({ offset: size, length: 1 }), 'RANGE'],
      [request({ length: 64 * KiB + 1 }), 'TOO_LARGE'],
      [request({ length: 0 }), 'INVALID'],
      [request({ length: 1, flags: 0x80 }), 'INVALID'],
      [request({ length: 1 }, block), 'INVALID'],
      [request({ command: Command.write, length: large.length }, large), 'TOO_LARGE'],
      [request({ command: Command.write, length: 1 }, block), 'INVALID'],
      [request({ command: Command.write, length: 0 }), 'INVALID'],
      [request({ command: Command.trim, offset: size - 1, length: 2 }), 'RANGE'],
      [request({ offset: 2 ** 60, length: 1 }), 'RANGE'],
      [
        request({ command: Command.write, offset: 2 ** 63, length: 1 }, block.subarray(0, 1)),
        'RANGE',
      ],
      [request({ command: 9, length: 1 }, block), 'UNSUPPORTED'],
      [request({ command: 200 }, block), 'UNSUPPORTED'],
      [request({ command: Command.claim, offset: 2 ** 54 }), 'INVALID'],
    ]
    for (const [sequence, [bytes, code]] of cases.entries()) {
      bytes.writeUInt32LE(sequence, 4)
      client.send(bytes)
      const { header } = await client.reply()
      expect([header.sequence, header.status]).to.deep.equal([sequence, statusOf(code)], code)
    }
    client.send(request({ length: 100 }))
    expect((await client.reply()).payload.equals(Buffer.alloc(100))).to.equal(true)
    client.destroy()
  })

  it('refuses to change a read-only export, whatever the client believes', async () => {
    const client = await greeted(target, { name: 'readable' })
    client.send(
      request({ command: Command.write, length: block.length, slot: 1 }, block),
      request({ command: Command.trim, length: block.length, slot: 2 }),
      request({ command: Command.writeZeroes, length: block.length, slot: 3 }),
      request({ command: Command.flush, slot: 4 }),
    )
    const statuses: number[] = []
    for (let left = 4; left > 0; left--) statuses.push((await client.reply()).header.status)
    const refused = statusOf('READ_ONLY')
    expect(statuses).to.deep.equal([refused, refused, refused, statusOk])
    client.destroy()
  })

  it('closes when a slot is used twice at once, or is none of its own', async () => {
    gate.shutGate()
    const twice = await greeted(target, { client: '22'.repeat(16) })
    const change = request({ command: Command.write, length: block.length }, block)
    twice.send(change, change)
    await twice.closed
    gate.openGate()
    const beyond = await greeted(target, { client: '33'.repeat(16) })
    beyond.send(request({ slot: 5000, length: 1 }))
    await beyond.closed
  })

  it('answers pings', async () => {
    const client = await greeted(target)
    client.send(request({ command: Command.ping, sequence: 77 }))
    const { header } = await client.reply()
    expect([header.kind, header.sequence]).to.deep.equal([Kind.pong, 77])
    client.destroy()
  })

  it('lists what it exports', async () => {
    const about = { size, usable: true }
    expect(await listExports(clientContext(), target.tcp, 5000)).to.deep.equal([
      { ...about, name: 'disk', description: 'about disk', readOnly: false },
      { ...about, name: 'readable', description: 'about readable', readOnly: true },
    ])
  })
})

describe('a server with limits', () => {
  it('closes what does not say hello, is silent, or does not read', async () => {
    const clock = new ManualClock()
    const { target } = await started({ clock, limits: { bytesPerConnection: 8 * MiB } })
    const mute = await RawClient.connect(target.tcp)
    mute.send(hello().subarray(0, 20))
    const silent = await greetedBy(clock, target, '22')
    const deaf = await greetedBy(clock, target, '33')
    deaf.socket.pause()
    for (let slot = 0; slot < 8; slot++) deaf.send(request({ slot, length: size }))
    await passes(clock, 5000)
    expect(target.service.clients().map((client) => client.connections)).to.deep.equal([1, 1])
    expect(target.admission.bytesInFlight).to.be.at.most(12 * MiB)
    await passes(clock, 60_000)
    await Promise.all([mute.closed, silent.closed])
    deaf.socket.resume()
    await deaf.closed
    expect(target.admission.bytesInFlight).to.equal(0)
    await target.stop()
  })

  it('closes nobody for silence who takes what it asked for, as slowly as it may', async () => {
    const clock = new ManualClock()
    const { target } = await started({ clock })
    const sink = new Sink(MiB)
    const handler = target.service.accept(sink, target.exports)!
    const reads = [1, 2, 3, 4].map((slot) => request({ slot, length: MiB }))
    for (const bytes of [hello(), ...reads]) {
      bytes.copy(handler.landing())
      handler.landed(bytes.length)
      while (target.service.clients().length === 0) await new Promise(setImmediate)
      await passes(clock, 500)
    }
    expect(sink.sent).to.have.length(1 + reads.length)
    handler.sent()
    for (let taken = 1; taken < sink.sent.length; taken++) {
      await passes(clock, 20_000)
      expect(sink.destroyed, `before reply ${taken}`).to.equal(false)
      handler.sent()
    }
    // It has all of them, and then says nothing, nor does it when it is asked.
    let taken = sink.sent.length
    while (!sink.destroyed) {
      for (; taken < sink.sent.length; taken++) handler.sent()
      await passes(clock, 1000)
    }
    handler.closed(null)
    await target.stop()
    expect(target.admission.bytesInFlight).to.equal(0)
  })

  it('closes who sends a byte now and then of a payload that is dropped', async () => {
    const clock = new ManualClock()
    const { target } = await started({ clock })
    const client = await greetedBy(clock, target, '22')
    client.send(request({ command: 99, payload: 0xffff_ffff }))
    for (let turn = 0; turn < 1000 && !client.socket.destroyed; turn++) {
      client.send(Buffer.alloc(1))
      await passes(clock, 500)
    }
    expect(client.socket.destroyed).to.equal(true)
    await target.stop()
  })

  it('keeps memory within its limit, whatever is asked for', async () => {
    const { target } = await started({ limits: { bytesInFlight: 8 * MiB } })
    const clients: RawClient[] = []
    for (let at = 0; at < 20; at++) {
      const client = await greeted(target, { client: Buffer.alloc(16, at).toString('hex') })
      client.socket.pause()
      for (let slot = 0; slot < 16; slot++) client.send(request({ slot, length: MiB }))
      clients.push(client)
    }
    const device = remote(target.tcp, 'disk')
    await device.open()
    const reading = read(device, 0, MiB)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(target.admission.bytesInFlight).to.be.at.most(8 * MiB)
    for (const client of clients) client.destroy()
    await reading
    await device.close()
    await target.stop()
    expect(target.admission.bytesInFlight).to.equal(0)
    expect(target.slab.bytesHeld).to.equal(0)
  })

  it('asks the device for as much as one may, whatever else it cannot tell', async () => {
    const payload = 64 * KiB
    const { target } = await started({ limits: { payload, bytesPerConnection: payload } })
    const stuck = new GateDriver(size)
    stuck.stamp = () => new Promise<string>(() => undefined)
    await target.add('stuck', stuck)
    const client = await greeted(target, { name: 'stuck' })
    client.send(request({ command: Command.stamp, slot: 1 }), request({ length: payload, slot: 2 }))
    expect((await client.reply()).payload.length).to.equal(payload)
    client.destroy()
    await target.stop()
  })

  it('does not read long before what is not taken, where the device answers at once', async () => {
    const { target } = await started()
    const client = await RawClient.connect(target.unix)
    client.send(hello({ depth: 32 }))
    await client.welcome()
    client.socket.pause()
    for (let slot = 0; slot < 24; slot++) client.send(request({ slot, length: MiB }))
    const { device } = target.exports.find('disk')!
    const other = remote(target.unix, 'disk')
    await other.open()
    // Turns enough to carry out all of them.
    for (let turn = 0; turn < 100; turn++) await write(other, 0, block)
    expect(device.counters.operations[Operation.read]).to.be.within(4, 8)
    client.socket.resume()
    const slots = new Set<number>()
    while (slots.size < 24) {
      const { header, payload } = await client.reply()
      expect(payload.length).to.equal(MiB)
      slots.add(header.slot)
    }
    client.destroy()
    await other.close()
    await target.stop()
  })

  it('leaves every turn to others, whatever is asked that is answered at once', async () => {
    const { target } = await started({ clock: tickingClock() })
    const client = await greeted(target, { depth: 1024 })
    const { counters } = target.exports.find('disk')!.device
    const asked = 2000
    const status = { command: Command.status, length: size }
    client.send(
      ...Array.from({ length: asked }, (_, at) =>
        request({ ...status, slot: at % 1024, sequence: at }),
      ),
    )
    let most = 0
    for (let before = 0; before < asked;) {
      const now = counters.operations[Operation.status]!
      most = Math.max(most, now - before)
      before = now
      await new Promise(setImmediate)
    }
    // Fewer than one landing brings.
    expect(most).to.be.at.most(100)
    for (let at = 0; at < asked; at++) expect((await client.reply()).header.sequence).to.equal(at)
    client.destroy()
    await target.stop()
  })

  it('asks a slow device for all it can begin, whatever waits to be taken', async () => {
    const target = new Target()
    const slow = new SlowDriver(size)
    await target.add('disk', slow)
    await target.start()
    const client = await RawClient.connect(target.unix)
    client.send(hello({ depth: 32 }))
    await client.welcome()
    client.send(request({ slot: 31, length: 512 }))
    await client.reply()
    client.socket.pause()
    for (const from of [0, 12]) {
      slow.shut = true
      for (let slot = from; slot < from + 12; slot++) client.send(request({ slot, length: MiB }))
      await slow.waits(12)
      slow.letThrough()
    }
    client.destroy()
    await target.stop()
  })

  it('is told of a large write as soon as that was answered', async () => {
    const { target } = await started()
    // Longer than a batch; later it would be told with the next ping, which is too late for a test.
    const pings = { pingInterval: 120_000, pingTimeout: 600_000 }
    const device = remote(target.unix, 'disk', pings)
    await device.open()
    for (let at = 0; at < 20; at++) await write(device, 0, Buffer.alloc(MiB, at))
    await device.close()
    await target.stop()
  })

  it('takes a thousand connections, and no more than it may', async () => {
    const { target } = await started({ limits: { connections: 1000 } })
    const clients: RawClient[] = []
    for (let at = 0; at < 999; at++) clients.push(await RawClient.connect(target.tcp))
    const device = remote(target.tcp, 'disk', { connections: 1 })
    await device.open()
    await write(device, 0, block)
    const beyond = await RawClient.connect(target.tcp)
    await beyond.closed
    for (const [at, client] of clients.entries())
      client.send(hello({ client: (at + 1).toString(16).padStart(32, '0') }))
    for (const client of clients) expect((await client.welcome()).status).to.equal(statusOk)
    for (const client of clients) client.send(request({ length: 512 }))
    for (const client of clients) expect((await client.reply()).payload.length).to.equal(512)
    expect((await read(device, 0, block.length)).equals(block)).to.equal(true)
    expect(target.service.clients()).to.have.length(1000)
    for (const client of clients) client.destroy()
    await device.close()
    await target.stop()
    expect(target.slab.bytesHeld).to.equal(0)
  })

  it('tells nobody more of what changes than waits to be read, but of the last', async () => {
    const { target, gate } = await started()
    const client = await greeted(target)
    const changes = 5000
    // All of it in one turn: nobody could have read any of it.
    for (let change = 1; change <= changes; change++) gate.become({ size: size + 512 * change })
    let told = 0
    for (let last = 0; last < size + 512 * changes; told++) {
      const { header, payload } = await client.reply()
      expect(header.kind).to.equal(Kind.facts)
      last = decodeFacts(payload, 0)!.facts.size
    }
    expect(told).to.be.below(2000)
    client.send(request({ length: 512 }))
    expect((await client.reply()).payload.length).to.equal(512)
    client.destroy()
    await target.stop()
  })

  it('sends a lone request, and its answer, before the turn ends', async () => {
    const clock = new StuckClock()
    const { target, gate } = await started({ clock })
    const device = remote(target.tcp, 'disk', {}, clientContext('landing', clock))
    await device.open()
    clock.stuck = true
    gate.shutGate()
    const writing = write(device, 0, block)
    await gate.arrivals(1)
    gate.openGate()
    await writing
    await device.close()
    await target.stop()
  })

  it('answers what is in flight when it drains, and takes nothing new', async () => {
    const { target, gate } = await started()
    const client = await greeted(target)
    const idle = await greeted(target, { client: '22'.repeat(16) })
    gate.shutGate()
    const change = request({ command: Command.write, length: block.length }, block)
    client.send(change)
    await gate.arrivals(1)
    const drained = target.service.drain()
    await idle.closed
    client.send(request({ slot: 1, length: 512 }))
    gate.openGate()
    expect((await client.reply()).header.status).to.equal(statusOk)
    await Promise.all([client.closed, drained])
    await target.stop()
  })
})

/** Lets time pass second by second, with turns of the loop in between for the sockets. */
async function passes(clock: ManualClock, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 500) {
    clock.advance(500)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

async function greetedBy(clock: ManualClock, target: Target, id: string): Promise<RawClient> {
  const client = await RawClient.connect(target.tcp)
  client.send(hello({ client: id.repeat(16) }))
  const welcome = client.welcome()
  for (let welcomed = false; !welcomed;) {
    clock.advance(1)
    const turn = new Promise<boolean>((resolve) => setImmediate(resolve, false))
    welcomed = await Promise.race([welcome.then(() => true), turn])
  }
  return client
}
