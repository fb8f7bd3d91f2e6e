import { expect } from 'chai'
import { KiB, MiB } from '../../src/base/size.ts'
import type { Request } from '../../src/device/request.ts'
import * as nbd from '../../src/nbd/codec.ts'
import {
  encodeClientFlags,
  encodeInfoRequest,
  encodeOption,
  Option,
} from '../../src/nbd/options.ts'
import { local } from '../../src/net/identity.ts'
import type { Connection, ConnectionHandler } from '../../src/net/network.ts'
import { Command } from '../../src/wire/codec.ts'
import { Rig } from '../nbd/rig.ts'
import { ManualClock } from '../support/clock.ts'
import { Sink } from '../support/sink.ts'
import { GateDriver } from '../wire/gate.ts'
import { hello, request } from '../wire/raw.ts'
import { Target } from '../wire/rig.ts'

/** One whose bytes a test delivers, also when it was paused: those of a delivery under way. */
class Delivered implements Connection {
  readonly peer = 'a test'
  readonly identity = local
  readonly batchBytes = MiB
  handler!: ConnectionHandler
  destroyed = false

  deliver(bytes: Buffer): void {
    for (let at = 0; at < bytes.length && !this.destroyed;) {
      const copied = bytes.copy(this.handler.landing(), 0, at)
      at += copied
      this.handler.landed(copied)
    }
  }

  send(): void {
    // Nobody reads it.
  }

  pause(): void {
    // A delivery is under way.
  }

  resume(): void {
    // As above.
  }

  end(): void {
    this.destroy()
  }

  destroy(): void {
    if (this.destroyed) return
    this.destroyed = true
    setImmediate(() => this.handler.closed(null))
  }
}

/** Finds out with each write that it is not what it was. */
class Rebooting extends GateDriver {
  override submit(asked: Request): void {
    this.become({ bootId: `${this.arrived}`.padStart(32, '0') })
    super.submit(asked)
  }
}

describe('what a connection takes in', () => {
  it('is nothing more once it was closed while a payload was handed over', async () => {
    const target = new Target({ limits: { bytesInFlight: 64 * MiB } })
    const gate = new Rebooting(4 * MiB)
    await target.add('disk', gate)
    await target.start()
    const connection = new Delivered()
    connection.handler = target.service.accept(connection, target.exports)!
    connection.deliver(hello())
    while (target.service.clients().length === 0) await new Promise(setImmediate)
    await new Promise(setImmediate)
    // Of the first write, the last bytes have to wait for room, and the second one comes with them.
    const payload = Buffer.alloc(MiB + 100, 1)
    const first = request({ command: Command.write, length: payload.length, slot: 1 }, payload)
    const block = Buffer.alloc(100, 2)
    const second = request({ command: Command.write, length: block.length, slot: 2 }, block)
    connection.deliver(first.subarray(0, 1000))
    const others = ['one', 'two'].map((origin) =>
      target.admission.join(origin, { admitted: () => undefined }),
    )
    others[0]!.charge(64 * MiB)
    expect(others[1]!.reserve(32 * MiB)).to.equal(true)
    connection.deliver(Buffer.concat([first.subarray(1000), second]))
    expect(gate.arrived).to.equal(0)
    others[0]!.giveBack(64 * MiB)
    others[1]!.giveBack(32 * MiB)
    for (const room of others) room.leave()
    expect([connection.destroyed, gate.arrived]).to.deep.equal([true, 1])
    await target.stop()
    expect(target.slab.bytesHeld).to.equal(0)
    expect(target.admission.bytesInFlight).to.equal(0)
  })
})

describe('a payload that lands step by step', () => {
  const clock = new ManualClock()
  const sendTimeout = 30_000
  const bytesInFlight = 64 * MiB
  let rig: Rig
  let sink: Sink
  let handler: ConnectionHandler
  /** Takes all the room there is, and gives it back. */
  let takeAll: () => () => void

  beforeEach(async () => {
    rig = new Rig({ bytesInFlight, sendTimeout }, 'landing', clock)
    await rig.addMemory('disk', 8 * MiB)
    sink = new Sink()
    handler = rig.service.accept(sink, rig.exports)!
    say(encodeClientFlags(3))
    say(encodeOption(Option.go, encodeInfoRequest({ name: 'disk', infos: [] })))
    for (let left = sink.sent.length; left > 0; left--) handler.sent()
    takeAll = () => {
      const rooms = ['one', 'two'].map((origin) =>
        rig.admission.join(origin, { admitted: () => undefined }),
      )
      rooms[0]!.charge(bytesInFlight)
      expect(rooms[1]!.reserve(bytesInFlight / 2)).to.equal(true)
      return () => {
        rooms[0]!.giveBack(bytesInFlight)
        rooms[1]!.giveBack(bytesInFlight / 2)
        for (const room of rooms) room.leave()
      }
    }
  })

  afterEach(async () => {
    handler.closed(null)
    await rig.close()
    expect(rig.slab.bytesHeld).to.equal(0)
    expect(rig.admission.bytesInFlight).to.equal(0)
  })

  function say(bytes: Buffer): void {
    for (let at = 0; at < bytes.length;) {
      const landed = bytes.copy(handler.landing(), 0, at)
      handler.landed(landed)
      at += landed
    }
  }

  it('has one time-out to do so, however often it waits for room, without the waits', () => {
    const length = 3 * MiB
    const { write } = nbd.Command
    const header = Object.assign(new nbd.RequestHeader(), { type: write, length })
    const bytes = Buffer.alloc(nbd.requestBytes)
    header.encode(bytes, 0)
    say(bytes)
    for (let step = 0; step < 2; step++) {
      clock.advance(sendTimeout / 2 - 2000)
      const giveBack = takeAll()
      say(Buffer.alloc(MiB))
      // It is not read while it waits.
      clock.advance(10 * sendTimeout)
      giveBack()
      expect(sink.destroyed, `after step ${step}`).to.equal(false)
    }
    say(Buffer.alloc(KiB))
    clock.advance(2000)
    expect(sink.destroyed).to.equal(false)
    clock.advance(4000)
    expect(sink.destroyed).to.equal(true)
  })
})
