import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import type { Request } from '../../src/device/request.ts'
import type { Connection, ConnectionHandler } from '../../src/net/network.ts'
import { Command } from '../../src/wire/codec.ts'
import { GateDriver } from '../wire/gate.ts'
import { hello, request } from '../wire/raw.ts'
import { Target } from '../wire/rig.ts'

/** One whose bytes a test delivers, also when it was paused: those of a delivery under way. */
class Delivered implements Connection {
  readonly peer = 'a test'
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
    connection.handler = target.service.accept(connection)!
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
