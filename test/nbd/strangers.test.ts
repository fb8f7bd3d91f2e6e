import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { Command, requestBytes } from '../../src/nbd/codec.ts'
import type { Receive } from '../../src/net/sockets.ts'
import { timelessClock } from '../support/clock.ts'
import { Rig } from './rig.ts'
import { Talker } from './talker.ts'

/** What the longest write has. */
const longest = 32 * MiB
const noise = Buffer.alloc(MiB, 0x5a)

/** What a stranger does to hold as much as it can, and to give nothing back. */
const manners: Readonly<Record<string, (talker: Talker) => void>> = {
  'announce a payload and send nothing': (talker) => {
    talker.say(talker.request(Command.write, 0, longest))
  },
  'send all of a payload but the last byte': (talker) => {
    talker.say(talker.request(Command.write, 0, longest))
    for (let left = longest - 1; left > 0; left -= noise.length)
      talker.say(noise.subarray(0, Math.min(left, noise.length)))
  },
  'ask for all they can and read nothing': (talker) => {
    talker.socket.pause()
    for (let at = 0; at < 64; at++) talker.say(talker.request(Command.read, 0, MiB, at))
  },
  'ask for the longest replies and read nothing': (talker) => {
    talker.socket.pause()
    for (let at = 0; at < 2; at++) talker.say(talker.request(Command.read, 0, longest, at))
  },
  'ask for what is allocated and read nothing': (talker) => {
    talker.socket.pause()
    for (let at = 0; at < 2000; at++)
      talker.say(talker.request(Command.blockStatus, 0, 64 * MiB, at))
  },
}

for (const receive of ['landing', 'events'] satisfies Receive[])
  describe(`clients beside nine strangers who, ${receive},`, function () {
    let rig: Rig
    let strangers: Talker[]
    beforeEach(async () => {
      // Without time-outs: nobody is served because a stranger was cut off.
      rig = new Rig({}, receive, timelessClock())
      await rig.addMemory('disk', 64 * MiB)
      await rig.addMemory('other', 64 * MiB)
      await rig.listen()
      strangers = await Promise.all(
        Array.from({ length: 9 }, () => Talker.using(rig.unix, 'disk', true)),
      )
    })
    afterEach(async () => {
      for (const stranger of strangers) stranger.close()
      await rig.close()
      expect(rig.admission.bytesInFlight).to.equal(0)
      expect(rig.slab.bytesHeld).to.equal(0)
    })

    /** Waits until the target has taken from the strangers what it takes. */
    async function settled(): Promise<void> {
      for (let before = -1; before !== rig.admission.bytesInFlight;) {
        before = rig.admission.bytesInFlight
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }

    /** Writes of a MiB, several at once, then reads of the same. */
    async function works(client: Talker): Promise<void> {
      const rounds = 4
      const depth = 4
      for (let round = 0; round < rounds; round++) {
        for (let at = 0; at < depth; at++) {
          client.say(client.request(Command.write, at * MiB, MiB, at))
          client.say(Buffer.alloc(MiB, round * depth + at + 1))
        }
        for (let at = 0; at < depth; at++) expect((await client.answer()).error).to.equal(0)
        for (let at = 0; at < depth; at++) {
          const { data } = await client.ask(Command.read, at * MiB, MiB)
          expect(data.equals(Buffer.alloc(MiB, round * depth + at + 1))).to.equal(true)
        }
      }
    }

    for (const [name, act] of Object.entries(manners))
      it(`${name} are served, on the same socket and on another`, async () => {
        for (const stranger of strangers) act(stranger)
        await settled()
        for (const address of [rig.unix, rig.tcp]) {
          const client = await Talker.using(address, 'other', false)
          await works(client)
          client.close()
        }
      })

    it('announce a payload and send nothing can write the longest themselves', async () => {
      for (const stranger of strangers) manners['announce a payload and send nothing']!(stranger)
      await settled()
      const client = await Talker.using(rig.unix, 'other', false)
      expect(
        (await client.ask(Command.write, 0, longest, 0, Buffer.alloc(longest, 3))).error,
      ).to.equal(0)
      const { data } = await client.ask(Command.read, longest - 1, 1)
      expect(data[0]).to.equal(3)
      client.close()
    })

    it('come by hundreds and trickle are served all the same', async () => {
      const crowd = await Promise.all(
        Array.from({ length: 200 }, () => Talker.using(rig.unix, 'disk', false)),
      )
      for (const stranger of crowd) {
        stranger.say(stranger.request(Command.write, 0, longest))
        stranger.say(noise.subarray(0, 1000))
      }
      await settled()
      const trickle = setInterval(() => crowd.forEach((each) => each.say(noise.subarray(0, 1))), 20)
      const client = await Talker.using(rig.tcp, 'other', false)
      await works(client)
      clearInterval(trickle)
      client.close()
      for (const stranger of crowd) stranger.close()
    })
  })

it('forty writes of the longest kind come to their end without room for all', async function () {
  const rig = new Rig({ bytesInFlight: 96 * MiB }, 'landing', timelessClock())
  await rig.addMemory('disk', 64 * MiB)
  await rig.listen()
  const payload = Buffer.alloc(longest - requestBytes, 7)
  await Promise.all(
    Array.from({ length: 40 }, async (_, at) => {
      const client = await Talker.using(at % 2 === 0 ? rig.unix : rig.tcp, 'disk', false)
      expect((await client.ask(Command.write, 0, payload.length, 0, payload)).error).to.equal(0)
      client.close()
    }),
  )
  // A client may have its answer before the server hears that it was sent.
  while (rig.admission.bytesInFlight > 0) await new Promise((resolve) => setImmediate(resolve))
  await rig.close()
  expect(rig.slab.bytesHeld).to.equal(0)
})
