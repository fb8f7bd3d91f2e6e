import { expect } from 'chai'
import { GiB, MiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import { Command } from '../../src/nbd/codec.ts'
import type { Receive } from '../../src/net/sockets.ts'
import { tickingClock } from '../support/clock.ts'
import { Rig } from './rig.ts'
import { Talker } from './talker.ts'

/** Fewer than one landing brings. */
const perTurnMax = 150

for (const receive of ['landing', 'events'] satisfies Receive[])
  it(`who asks for much at once leaves every turn to others, ${receive}`, async () => {
    const rig = new Rig({}, receive, tickingClock())
    const device = await rig.addMemory('disk', 4 * GiB)
    await rig.listen()
    const talker = await Talker.using(rig.unix, 'disk', true)
    const asked = 4000
    talker.say(
      Buffer.concat(
        Array.from({ length: asked }, (_, at) => talker.request(Command.blockStatus, 0, MiB, at)),
      ),
    )
    const done = (): number => device.counters.operations[Operation.status]!
    let most = 0
    for (let before = 0; before < asked;) {
      const now = done()
      most = Math.max(most, now - before)
      before = now
      await new Promise(setImmediate)
    }
    expect(most).to.be.at.most(perTurnMax)
    for (let at = 0; at < asked; at++) expect((await talker.answer()).cookie).to.equal(at)
    expect(rig.admission.bytesInFlight).to.equal(0)
    talker.close()
    await rig.close()
  })
