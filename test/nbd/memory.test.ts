import { expect } from 'chai'
import { KiB, MiB } from '../../src/base/size.ts'
import type { Device } from '../../src/device/device.ts'
import { Operation } from '../../src/device/request.ts'
import { Command, RequestHeader, requestBytes } from '../../src/nbd/codec.ts'
import {
  encodeClientFlags,
  encodeInfoRequest,
  encodeOption,
  Option,
} from '../../src/nbd/options.ts'
import type { Receive } from '../../src/net/sockets.ts'
import { ManualClock } from '../support/clock.ts'
import { Sink } from '../support/sink.ts'
import { GateDriver } from './gate.ts'
import { Rig } from './rig.ts'
import { Talker } from './talker.ts'

/** Bytes of a write that is refused and dropped: more than one block of received bytes holds. */
const droppedBytes = 300_000
const writes = 120

for (const receive of ['landing', 'events'] satisfies Receive[])
  describe(`small writes that wait, ${receive},`, () => {
    let rig: Rig
    let gate: GateDriver
    beforeEach(async () => {
      rig = new Rig({}, receive)
      gate = new GateDriver(4 * MiB)
      await rig.add('slow', gate)
      await rig.listen()
    })
    afterEach(() => rig.close())

    for (const length of [1, 8192, 8193])
      it(`hold no memory beside their ${length} bytes`, async () => {
        gate.shut = true
        const talkers = await Promise.all(
          [0, 1, 2].map(() => Talker.using(rig.unix, 'slow', false)),
        )
        const unknownFlag = 0x100
        for (const talker of talkers)
          for (let at = 0; at < writes; at++)
            talker.say(
              Buffer.concat([
                talker.request(Command.write, at * 8193, length, at),
                Buffer.alloc(length, at),
                talker.request(Command.write, 0, droppedBytes, 1000, unknownFlag),
                Buffer.alloc(droppedBytes),
              ]),
            )
        await gate.waits(talkers.length * writes)
        expect(rig.slab.bytesHeld).to.be.below(48 * MiB)
        gate.letThrough()
        for (const talker of talkers) {
          const answers = new Map<number, number>()
          for (let left = 2 * writes; left > 0; left--) {
            const { cookie, error } = await talker.answer()
            if (cookie < 1000) answers.set(cookie, error)
          }
          expect([...answers.values()].every((error) => error === 0)).to.equal(true)
          expect(answers.size).to.equal(writes)
        }
        for (let at = 0; at < writes; at += 7) {
          const { data } = await talkers[0]!.ask(Command.read, at * 8193, length)
          expect(data.equals(Buffer.alloc(length, at)), `write ${at}`).to.equal(true)
        }
        for (const talker of talkers) talker.close()
      })
  })

describe('connections that say nothing any more', () => {
  const connections = 400
  let rig: Rig
  beforeEach(async () => {
    rig = new Rig()
    await rig.addMemory('disk', 4 * MiB)
    await rig.listen()
  })
  afterEach(() => rig.close())

  const talk = (): Promise<Talker[]> =>
    Promise.all(Array.from({ length: connections }, () => Talker.using(rig.unix, 'disk', false)))

  it('keep little after one request, and after half of one', async () => {
    const talkers = await talk()
    for (const [at, talker] of talkers.entries()) {
      const length = at % 2 === 0 ? 4096 : MiB
      expect((await talker.ask(Command.write, 0, length, 0, Buffer.alloc(length))).error).to.equal(
        0,
      )
      // And then half a header.
      talker.say(talker.request(Command.read, 0, 1).subarray(0, at % 3 === 0 ? 14 : 0))
    }
    // What was said before on another connection has landed once this is answered.
    await talkers[1]!.ask(Command.flush, 0, 0)
    expect(rig.slab.bytesHeld).to.be.at.most(connections * 16 * KiB + MiB)
    for (const talker of talkers) talker.close()
  })

  it('keep little all together after each was busy, down to half a header', async () => {
    const talkers = await talk()
    for (const talker of talkers) {
      const requests = Array.from({ length: 250 }, (_, at) =>
        talker.request(Command.write, at, 64, at),
      )
      const payload = Buffer.alloc(64)
      const half = talker.request(Command.read, 0, 1).subarray(0, 14)
      talker.say(Buffer.concat([...requests.flatMap((request) => [request, payload]), half]))
      for (let left = requests.length; left > 0; left--) await talker.answer()
    }
    expect(rig.slab.bytesHeld).to.be.at.most(connections * 16 * KiB + 48 * MiB)
    // And what lands in the less that they have is right.
    const [talker] = talkers
    talker!.say(talker!.request(Command.read, 0, 1).subarray(14))
    expect((await talker!.answer(1)).error).to.equal(0)
    for (const each of talkers) each.close()
  })
})

/** Half of it is spare, of the rest a peer may have half, and of that one connection half. */
const bytesInFlight = 64 * MiB

it('who takes replies one by one is dropped while others wait for their room', async () => {
  const rig = new Rig({ bytesInFlight, payload: MiB, sendTimeout: 300 })
  const gate = new GateDriver(8 * MiB)
  await rig.add('disk', gate)
  await rig.listen()
  const slow = await Talker.using(rig.unix, 'disk', false)
  const deaf = await Talker.using(rig.unix, 'disk', false)
  gate.shut = true
  for (const talker of [slow, deaf]) {
    talker.socket.pause()
    const asked = gate.waiting.length
    for (let at = 0; at < 64; at++) talker.say(talker.request(Command.read, 0, 128 * KiB - 512, at))
    // The other one does not have as much: it waits.
    if (talker === slow) await gate.waits(asked + 64)
  }
  await gate.waits(65)
  gate.letThrough()
  slow.socket.on('data', () => slow.socket.pause())
  const drops = setInterval(() => slow.socket.resume(), 50)
  expect((await slow.closed()).length).to.be.below(4 * MiB)
  clearInterval(drops)
  deaf.close()
  await rig.close()
})

it('who takes replies one by one and waits for room of its own is left alone', async () => {
  const clock = new ManualClock()
  const sendTimeout = 400
  const rig = new Rig({ bytesInFlight, payload: MiB, sendTimeout }, 'landing', clock)
  const gate = new GateDriver(8 * MiB)
  await rig.add('disk', gate)
  const sink = new Sink(256 * KiB)
  const handler = rig.service.accept(sink, rig.exports)!
  const say = (bytes: Buffer): void => {
    for (let at = 0; at < bytes.length;) {
      const landed = bytes.copy(handler.landing(), 0, at)
      handler.landed(landed)
      at += landed
    }
  }
  say(encodeClientFlags(3))
  say(encodeOption(Option.go, encodeInfoRequest({ name: 'disk', infos: [] })))
  // The client has read what it agreed on.
  for (let left = sink.sent.length; left > 0; left--) handler.sent()
  gate.shut = true
  const header = Object.assign(new RequestHeader(), { length: 128 * KiB - 512 })
  const request = Buffer.alloc(requestBytes)
  header.encode(request, 0)
  for (let at = 0; at < 120; at++) say(request)
  expect(gate.waiting).to.have.length(64)
  gate.letThrough()
  gate.shut = true
  for (let look = 0; look < 4; look++) {
    handler.sent()
    clock.advance(sendTimeout)
  }
  expect(rig.admission.othersWait(null)).to.equal(true)
  expect(sink.destroyed).to.equal(false)
  gate.letThrough()
  handler.closed(null)
  await rig.close()
})

describe('replies that nobody reads', () => {
  const requests = 24
  let rig: Rig
  let gate: GateDriver
  let device: Device
  let talker: Talker
  let other: Talker
  beforeEach(async () => {
    rig = new Rig()
    gate = new GateDriver(requests * MiB)
    device = await rig.add('disk', gate)
    await rig.listen()
    talker = await Talker.using(rig.unix, 'disk', false)
    other = await Talker.using(rig.unix, 'disk', false)
    for (let at = 0; at < requests; at++)
      await other.ask(Command.write, at * MiB, MiB, 0, Buffer.alloc(MiB, at + 1))
    talker.socket.pause()
  })
  afterEach(() => rig.close())

  const ask = (from: number, to: number): void => {
    for (let at = from; at < to; at++) talker.say(talker.request(Command.read, at * MiB, MiB, at))
  }
  const readAll = async (): Promise<void> => {
    talker.socket.resume()
    for (let left = requests; left > 0; left--) {
      const { cookie, data } = await talker.answer(MiB)
      expect(data.equals(Buffer.alloc(MiB, cookie + 1)), `read ${cookie}`).to.equal(true)
    }
  }

  it('are not made long before, where the device answers at once', async () => {
    ask(0, requests)
    // Turns enough to carry out all of them.
    for (let turn = 0; turn < 100; turn++) await other.ask(Command.flush, 0, 0)
    expect(device.counters.operations[Operation.read]).to.be.within(4, 8)
    await readAll()
    expect((await talker.ask(Command.read, 0, 4096)).error).to.equal(0)
  })

  it('do not keep a slow device from what it can begin', async () => {
    talker.socket.resume()
    await talker.ask(Command.read, 0, 512)
    talker.socket.pause()
    gate.shut = true
    ask(0, requests / 2)
    await gate.waits(requests / 2)
    gate.letThrough()
    gate.shut = true
    ask(requests / 2, requests)
    await gate.waits(requests / 2)
    gate.letThrough()
    await readAll()
  })
})
