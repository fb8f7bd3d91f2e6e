import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { Command } from '../../src/nbd/codec.ts'
import type { Receive } from '../../src/net/sockets.ts'
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
