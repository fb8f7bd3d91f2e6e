import { expect } from 'chai'
import { KiB } from '../../src/base/size.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { encodeOption, Option, Reply } from '../../src/nbd/options.ts'
import { timelessClock } from '../support/clock.ts'
import { Rig } from './rig.ts'
import { Talker } from './talker.ts'
import { SeededRandom } from '../support/seeded.ts'

/** More than the socket itself holds. */
const exportsOf = 400
const description = 'd'.repeat(4000)

describe('lists of exports that nobody reads', () => {
  const strangers = 100
  let rig: Rig
  let talkers: Talker[]
  beforeEach(async () => {
    rig = new Rig({}, 'landing', timelessClock())
    const device = await rig.add('first', new MemoryDriver(4096, new SeededRandom(1)))
    for (let at = 1; at < exportsOf; at++) rig.exports.add(`e${at}`, device, false, description)
    await rig.listen()
    talkers = await Promise.all(Array.from({ length: strangers }, () => Talker.greeted(rig.unix)))
  })
  afterEach(async () => {
    for (const talker of talkers) talker.close()
    await rig.close()
    expect(rig.admission.bytesInFlight).to.equal(0)
    expect(rig.slab.bytesHeld).to.equal(0)
  })

  it('take no memory for each who asks', async () => {
    for (const talker of talkers) {
      talker.socket.pause()
      for (let at = 0; at < 20; at++) talker.say(encodeOption(Option.list, Buffer.alloc(0)))
    }
    const client = await Talker.using(rig.unix, 'first', false)
    client.close()
    expect(rig.slab.bytesHeld).to.be.below((strangers + 2) * 32 * KiB)
    const [reader] = talkers
    reader!.socket.resume()
    for (let at = 0; at < 20; at++) {
      const answers = await reader!.optionReplies(Option.list)
      expect(answers).to.have.length(exportsOf + 1)
      expect(answers.at(-1)!.type).to.equal(Reply.ack)
      expect(answers[7]!.data.toString('utf8', 6)).to.equal(description)
    }
  })

  it('leave what is said beside them counted', async () => {
    const [talker] = talkers
    talker!.socket.pause()
    const unknown = 99
    // Answers that the socket has no room for behind a list.
    for (let at = 0; at < 20; at++) {
      talker!.say(encodeOption(unknown, Buffer.alloc(0)))
      talker!.say(encodeOption(Option.list, Buffer.alloc(0)))
    }
    while (rig.admission.bytesInFlight === 0) await new Promise(setImmediate)
    expect(rig.admission.bytesInFlight).to.be.below(8 * KiB)
    talker!.socket.resume()
    for (let at = 0; at < 20; at++) {
      expect((await talker!.optionReplies(unknown))[0]!.type).to.equal(Reply.errUnsup)
      await talker!.optionReplies(Option.list)
    }
  })

  it('tell of an export as soon as its device was there', async () => {
    const [talker] = talkers
    expect(await talker!.option(Option.list)).to.have.length(exportsOf + 1)
    await rig.add('last', new MemoryDriver(4096, new SeededRandom(2)))
    expect(await talker!.option(Option.list)).to.have.length(exportsOf + 2)
  })
})
