import { expect } from 'chai'
import { Command } from '../../src/wire/codec.ts'
import { statusOf, statusOk } from '../../src/wire/status.ts'
import { Sink } from '../support/sink.ts'
import { GateDriver } from './gate.ts'
import { greeted, started } from './peer.ts'
import { hello, RawClient, request } from './raw.ts'
import { Target } from './rig.ts'

describe('sessions', () => {
  let target: Target
  let gate: GateDriver

  beforeEach(async () => {
    ;({ target, gate } = await started())
  })

  afterEach(() => target.stop())

  const change = (slot: number, byte: number, sequence = 1): Buffer =>
    request({ command: Command.write, slot, sequence, length: 512 }, Buffer.alloc(512, byte))

  it('wait for what an older connection left in the device', async () => {
    const older = await greeted(target)
    gate.shutGate()
    older.send(change(0, 1))
    await gate.arrivals(1)
    const newer = await RawClient.connect(target.tcp)
    newer.send(hello({ epoch: 2 }), change(1, 2))
    await older.closed
    let welcomed = false
    const welcome = newer.welcome().then((result) => {
      welcomed = true
      return result
    })
    // A round trip of another client: whatever could have happened has.
    const other = await greeted(target, { client: '22'.repeat(16) })
    other.send(request({ length: 512 }))
    await other.reply()
    expect([welcomed, gate.arrived]).to.deep.equal([false, 1])
    gate.openGate()
    expect((await welcome).status).to.equal(statusOk)
    expect((await newer.reply()).header.status).to.equal(statusOk)
    newer.send(request({ slot: 2, length: 512 }))
    expect((await newer.reply()).payload.equals(Buffer.alloc(512, 2))).to.equal(true)
    for (const client of [newer, other]) client.destroy()
  })

  it('welcome nobody whom the server has said goodbye to while they waited', async () => {
    const older = await greeted(target)
    gate.shutGate()
    older.send(change(0, 1))
    await gate.arrivals(1)
    const newer = new Sink()
    const handler = target.service.accept(newer, target.exports)!
    const said = hello({ epoch: 2 })
    said.copy(handler.landing())
    handler.landed(said.length)
    await older.closed
    const drained = target.service.drain()
    gate.openGate()
    expect(newer.sent).to.deep.equal([])
    handler.closed(null)
    await drained
  })

  it('close the older connections of a client, and refuse late ones', async () => {
    const older = await greeted(target, { epoch: 4 })
    const newer = await greeted(target, { epoch: 5 })
    await older.closed
    const late = await RawClient.connect(target.tcp)
    late.send(hello({ epoch: 4, index: 1 }))
    expect((await late.welcome()).status).to.equal(statusOf('STALE'))
    const double = await RawClient.connect(target.tcp)
    double.send(hello({ epoch: 5 }))
    expect((await double.welcome()).status).to.equal(statusOf('PROTOCOL'))
    newer.send(change(0, 1))
    expect((await newer.reply()).header.status).to.equal(statusOk)
    newer.destroy()
  })

  it('answer a change that was carried out already', async () => {
    const first = await greeted(target)
    first.send(change(0, 1))
    await first.reply()
    first.destroy()
    const second = await greeted(target, { epoch: 2 })
    second.send(change(0, 1), change(0, 2, 2))
    for (let left = 2; left > 0; left--)
      expect((await second.reply()).header.status).to.equal(statusOk)
    expect(gate.arrived).to.equal(2)
    second.destroy()
  })

  it('are lost when the device is not what it was', async () => {
    const client = await greeted(target)
    gate.become({ bootId: 'f'.repeat(32) })
    await client.closed
  })
})
