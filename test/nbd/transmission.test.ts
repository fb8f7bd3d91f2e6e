import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { KiB, MiB } from '../../src/base/size.ts'
import type { Receive } from '../../src/net/sockets.ts'
import { Command, CommandFlag, Errno, requestBytes } from '../../src/nbd/codec.ts'
import { StuckClock } from '../support/clock.ts'
import { read } from '../support/io.ts'
import { GateDriver } from './gate.ts'
import { nbdLeaf, nbdWorld } from './leaf.ts'
import { Rig } from './rig.ts'
import { Talker } from './talker.ts'
import { SeededRandom } from '../support/seeded.ts'

const size = 4 * MiB
const random = new SeededRandom(11)

for (const receive of ['landing', 'events'] as const satisfies Receive[])
  for (const structured of [true, false])
    describe(`NBD transmission, ${receive}, ${structured ? 'structured' : 'simple'}`, () => {
      let rig: Rig
      let talker: Talker
      beforeEach(async () => {
        rig = new Rig({ payload: MiB }, receive)
        await rig.listen()
        await rig.addMemory('disk', size)
        await rig.addMemory('fixed', size, true)
        talker = await Talker.using(rig.unix, 'disk', structured)
      })
      afterEach(async () => {
        talker.close()
        await rig.close()
        expect(rig.slab.bytesHeld).to.equal(0)
        expect(rig.admission.bytesInFlight).to.equal(0)
      })

      it('reads back what was written', async () => {
        for (const length of [1, 512, 4096, 100_000, MiB]) {
          const data = random.bytes(length)
          expect((await talker.ask(Command.write, 777, length, 0, data)).error).to.equal(0)
          const read = await talker.ask(Command.read, 777, length)
          expect(read.data.equals(data)).to.equal(true)
          expect(read.chunks).to.equal(structured ? 1 : 0)
        }
      })

      it('answers a burst in one go, and every request once', async () => {
        const count = 500
        const requests: Buffer[] = []
        for (let cookie = 0; cookie < count; cookie++) {
          requests.push(talker.request(Command.write, cookie * 4096, 4096, cookie))
          requests.push(Buffer.alloc(4096, cookie))
        }
        talker.say(Buffer.concat(requests))
        const cookies = new Set<number>()
        for (let at = 0; at < count; at++) cookies.add((await talker.answer()).cookie)
        expect(cookies.size).to.equal(count)
        const last = await talker.ask(Command.read, 499 * 4096, 4096)
        expect(last.data.equals(Buffer.alloc(4096, 499))).to.equal(true)
      })

      it('refuses with the right error, and goes on', async () => {
        const tooLong = structured ? Errno.EOVERFLOW : Errno.EINVAL
        const { EINVAL, ENOSPC } = Errno
        const cases: [number, number, number, number, number][] = [
          [Command.read, size - 100, 512, 0, EINVAL],
          [Command.read, 2 ** 52, 512, 0, EINVAL],
          [Command.read, 0, 0, 0, EINVAL],
          [Command.read, 0, 2 * MiB, 0, tooLong],
          [Command.read, 0, 512, CommandFlag.reqOne, EINVAL],
          [Command.read, 0, 512, 0x8000, EINVAL],
          [Command.write, size, 512, 0, ENOSPC],
          [Command.write, 0, 0, 0, EINVAL],
          [Command.write, 0, 2 * MiB, 0, EINVAL],
          [Command.write, 0, 512, CommandFlag.fastZero, EINVAL],
          [Command.flush, 0, 512, 0, EINVAL],
          [Command.flush, 512, 0, 0, EINVAL],
          [Command.trim, size - 512, 1024, 0, EINVAL],
          [Command.trim, 0, 512, CommandFlag.noHole, EINVAL],
          [Command.cache, size - 512, 1024, 0, EINVAL],
          [Command.writeZeroes, size - 512, 1024, 0, ENOSPC],
          [Command.blockStatus, size, 512, 0, EINVAL],
          [8, 0, 0, 0, EINVAL],
          [0xffff, 0, 0, 0, EINVAL],
        ]
        for (const [type, offset, length, flags, error] of cases) {
          const payload = Buffer.alloc(type === Command.write ? length : 0, 0xaa)
          const answer = await talker.ask(type, offset, length, flags, payload)
          expect(answer.error, `${type} ${offset}+${length} flags ${flags}`).to.equal(error)
        }
        expect((await talker.ask(Command.read, 0, 512)).data.equals(Buffer.alloc(512))).to.equal(
          true,
        )
      })

      it('says in a sentence what is wrong with a request', async () => {
        if (!structured) return
        const cases: [number, number, number, number, string][] = [
          [Command.read, 0, 64 * MiB, 0, 'read of 67108864 bytes: at most 1048576 are possible'],
          [Command.read, size, 512, 0, `read of 512 bytes at ${size}: the device ends at byte`],
          [Command.read, 0, 0, 0, 'there is nothing to do'],
          [Command.read, 0, 512, 0x100, 'read: flags 0x100 are unknown'],
          [Command.write, 0, 0, 0, 'there is nothing to write'],
          [Command.flush, 0, 512, 0, 'neither an offset nor a length'],
          [99, 0, 0, 0, 'there is no command 99'],
        ]
        for (const [type, offset, length, flags, words] of cases) {
          const { message } = await talker.ask(type, offset, length, flags)
          expect(message).to.contain(words)
        }
        const { size: bytes } = rig.exports.find('fixed')!.device.facts!
        const reader = await Talker.using(rig.unix, 'fixed', true)
        const { message } = await reader.ask(Command.trim, 0, bytes)
        expect(message).to.equal('trim: the export may only be read')
        reader.close()
      })

      it('knows what lies beyond every number, and says the offset as it was sent', async () => {
        const last = 2n ** 64n - 2048n
        for (const [offset, said] of [
          [2 ** 63, 2n ** 63n],
          [Number(last), last],
        ] as const) {
          const data = Buffer.alloc(512)
          for (const [type, errno] of [
            [Command.write, Errno.ENOSPC],
            [Command.writeZeroes, Errno.ENOSPC],
            [Command.read, Errno.EINVAL],
            [Command.trim, Errno.EINVAL],
            [Command.cache, Errno.EINVAL],
            [Command.blockStatus, Errno.EINVAL],
          ] as const) {
            const payload = type === Command.write ? data : Buffer.alloc(0)
            const answer = await talker.ask(type, offset, 512, 0, payload)
            expect(answer.error, `command ${type}`).to.equal(errno)
            if (structured)
              expect(answer.message).to.contain(`512 bytes at ${said}: the export ends`)
          }
        }
      })

      it('takes force unit access on anything, and all flags of zeroes', async () => {
        const { fua, noHole, fastZero } = CommandFlag
        const block = Buffer.alloc(512, 1)
        expect((await talker.ask(Command.write, 0, 512, fua, block)).error).to.equal(0)
        expect((await talker.ask(Command.read, 0, 512, fua)).data.equals(block)).to.equal(true)
        for (const flags of [0, fua, noHole, fastZero, fua | noHole | fastZero])
          expect((await talker.ask(Command.writeZeroes, 0, 512, flags)).error).to.equal(0)
        for (const type of [Command.trim, Command.cache])
          expect((await talker.ask(type, 0, size, fua)).error).to.equal(0)
        expect((await talker.ask(Command.flush, 0, 0, fua)).error).to.equal(0)
      })

      it('tells what is allocated, if that was agreed', async () => {
        await talker.ask(Command.write, 64 * KiB, 512, 0, Buffer.alloc(512, 1))
        const all = await talker.ask(Command.blockStatus, 0, size)
        const one = await talker.ask(Command.blockStatus, 1000, size - 1000, CommandFlag.reqOne)
        if (!structured) {
          expect([all.error, one.error]).to.deep.equal([Errno.EINVAL, Errno.EINVAL])
          return
        }
        const words = (data: Buffer): number[] =>
          Array.from({ length: data.length / 4 }, (_, at) => data.readUInt32BE(4 * at))
        const rest = size - 128 * KiB
        expect(words(all.data)).to.deep.equal([1, 64 * KiB, 3, 64 * KiB, 0, rest, 3])
        expect(words(one.data)).to.deep.equal([1, 64 * KiB - 1000, 3])
      })

      it('lets nobody change a read-only export', async () => {
        const other = await Talker.using(rig.tcp, 'fixed', structured)
        const block = Buffer.alloc(512, 1)
        for (const type of [Command.write, Command.trim, Command.writeZeroes])
          expect(
            (await other.ask(type, 0, 512, 0, type === Command.write ? block : undefined)).error,
          ).to.equal(Errno.EPERM)
        expect((await other.ask(Command.read, 0, 512)).data.equals(Buffer.alloc(512))).to.equal(
          true,
        )
        other.close()
      })

      it('closes on a wrong magic and on a payload far too long', async () => {
        talker.say(Buffer.alloc(requestBytes, 0x25))
        await talker.closed()
        const other = await Talker.using(rig.unix, 'disk', structured)
        other.say(other.request(Command.write, 0, 0xffff_ffff))
        await other.closed()
      })

      it('answers a refused write once its payload is here', async () => {
        const unknownFlag = 0x100
        const reader = await Talker.using(rig.unix, 'fixed', structured)
        const cases: [Talker, number, number][] = [
          [talker, 256 * 1024, unknownFlag],
          [talker, MiB + 1, 0],
          [talker, 3 * MiB, 0],
          [reader, 256 * 1024, 0],
        ]
        for (const [client, length, flags] of cases) {
          const answered = client.answer()
          let told = false
          void answered.then(() => (told = true))
          client.say(client.request(Command.write, 0, length, 1, flags))
          client.say(Buffer.alloc(length - 1))
          for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate)
          expect(told).to.equal(false)
          client.say(Buffer.alloc(1))
          expect((await answered).error).to.be.above(0)
          expect((await client.ask(Command.read, 0, 512)).error).to.equal(0)
        }
        const gone = await Talker.using(rig.unix, 'disk', structured)
        gone.say(gone.request(Command.write, 0, MiB, 1, unknownFlag))
        gone.close()
        reader.close()
      })

      it('lets go of everything when a client leaves in the middle of a payload', async () => {
        talker.say(talker.request(Command.write, 0, MiB))
        talker.say(Buffer.alloc(MiB / 2))
        const other = await Talker.using(rig.unix, 'disk', structured)
        await other.ask(Command.flush, 0, 0)
        talker.close()
        await other.ask(Command.flush, 0, 0)
        other.close()
      })
    })

describe('NBD transmission in trouble', () => {
  let rig: Rig
  let gate: GateDriver
  beforeEach(() => {
    gate = new GateDriver(64 * MiB)
  })
  afterEach(async () => {
    gate.letThrough()
    await rig.close()
    expect(rig.slab.bytesHeld).to.equal(0)
    expect(rig.admission.bytesInFlight).to.equal(0)
  })

  async function begin(limits: ConstructorParameters<typeof Rig>[0]): Promise<void> {
    rig = new Rig(limits)
    await rig.listen()
    await rig.add('gate', gate)
  }

  it('bounds the requests of a connection, and goes on as they complete', async () => {
    await begin({ requestsPerConnection: 4 })
    const talker = await Talker.using(rig.unix, 'gate', true)
    gate.shut = true
    const requests = Array.from({ length: 20 }, (_, at) => talker.request(Command.read, 0, 512, at))
    talker.say(Buffer.concat(requests))
    await gate.waits(4)
    const other = await Talker.using(rig.tcp, 'gate', true)
    other.say(other.request(Command.read, 0, 512))
    await gate.waits(5)
    expect(rig.service.clients().map(({ inFlight }) => inFlight)).to.deep.equal([4, 1])
    gate.letThrough()
    for (let at = 0; at < 20; at++) expect((await talker.answer()).error).to.equal(0)
    expect((await other.answer()).error).to.equal(0)
    talker.close()
    other.close()
  })

  it('bounds the memory of clients that never read, drops them, serves the others', async () => {
    const bytesInFlight = 16 * MiB
    await begin({ bytesPerConnection: 8 * MiB, bytesInFlight, payload: MiB, sendTimeout: 1000 })
    const deaf = await Promise.all([1, 2, 3].map(() => Talker.using(rig.unix, 'gate', true)))
    for (const talker of deaf) {
      talker.socket.pause()
      const requests = Array.from({ length: 200 }, (_, at) =>
        talker.request(Command.read, 0, MiB, at),
      )
      talker.say(Buffer.concat(requests))
    }
    const other = await Talker.using(rig.tcp, 'gate', true)
    const data = random.bytes(MiB)
    expect((await other.ask(Command.write, 0, MiB, 0, data)).error).to.equal(0)
    expect((await other.ask(Command.read, 0, MiB)).data.equals(data)).to.equal(true)
    expect(rig.admission.bytesInFlight).to.be.at.most(bytesInFlight)
    // Before they read again: who reads may go on, however late.
    while (rig.service.clients().length > 1) await sleep(10)
    for (const talker of deaf) talker.socket.resume()
    await Promise.all(deaf.map((talker) => talker.closed()))
    expect((await other.ask(Command.read, 0, MiB)).data.equals(data)).to.equal(true)
    other.close()
  })

  it('drops a client that says goodbye and does not read what it has asked for', async () => {
    await begin({ bytesPerConnection: 16 * MiB, payload: MiB, sendTimeout: 300 })
    const talker = await Talker.using(rig.unix, 'gate', true)
    talker.socket.pause()
    const reads = [1, 2, 3].map((cookie) => talker.request(Command.read, 0, MiB, cookie))
    talker.say(Buffer.concat([...reads, talker.request(Command.disconnect, 0, 0)]))
    while (rig.service.clients().length > 0) await sleep(10)
    talker.close()
  })

  it('drops clients that stop in the middle of a payload, and serves those who wait', async () => {
    await begin({ bytesPerConnection: 2 * MiB, bytesInFlight: 4 * MiB, sendTimeout: 500 })
    const silent = await Promise.all([1, 2, 3].map(() => Talker.using(rig.unix, 'gate', true)))
    for (const talker of silent) talker.say(talker.request(Command.write, 0, 1.5 * MiB))
    const other = await Talker.using(rig.tcp, 'gate', true)
    await Promise.all(silent.map((talker) => talker.closed()))
    expect((await other.ask(Command.read, 0, 4096)).error).to.equal(0)
    other.close()
  })

  it('does not pile up errors for a client that never reads', async () => {
    await begin({ bytesPerConnection: 256 * KiB, bytesInFlight: MiB, sendTimeout: 300 })
    const talker = await Talker.using(rig.unix, 'gate', true)
    talker.socket.pause()
    const bad = talker.request(99, 0, 0)
    const many = Buffer.concat(Array.from({ length: 10_000 }, () => bad))
    for (let at = 0; at < 10; at++) talker.say(many)
    const other = await Talker.using(rig.unix, 'gate', true)
    for (let at = 0; at < 20; at++) expect((await other.ask(Command.flush, 0, 0)).error).to.equal(0)
    expect(rig.admission.bytesInFlight).to.be.at.most(MiB)
    talker.close()
    other.close()
  })

  it('answers what is in flight before it closes after DISC', async () => {
    await begin({})
    const talker = await Talker.using(rig.unix, 'gate', false)
    gate.shut = true
    talker.say(talker.request(Command.read, 0, 512, 5))
    talker.say(talker.request(Command.disconnect, 0, 0))
    await gate.waits(1)
    gate.letThrough()
    expect((await talker.answer(512)).cookie).to.equal(5)
    expect((await talker.closed()).length).to.equal(0)
  })

  it('drains: answers what is in flight, takes nothing new, closes', async () => {
    await begin({})
    const talker = await Talker.using(rig.unix, 'gate', true)
    const idle = await Talker.using(rig.unix, 'gate', true)
    const halfway = await Talker.using(rig.tcp, 'gate', true)
    const negotiating = await Talker.greeted(rig.unix)
    gate.shut = true
    halfway.say(Buffer.concat([halfway.request(Command.write, 0, MiB), Buffer.alloc(1000)]))
    talker.say(talker.request(Command.read, 0, 512, 5))
    await gate.waits(1)
    const drained = rig.service.drain()
    talker.say(talker.request(Command.read, 0, 512, 6))
    gate.letThrough()
    expect((await talker.answer()).cookie).to.equal(5)
    for (const one of [talker, idle, halfway, negotiating])
      expect((await one.closed()).length).to.equal(0)
    await drained
    expect(rig.service.clients()).to.deep.equal([])
    const late = await Talker.connect(rig.unix)
    await late.closed()
  })

  it('drains for as long as the device takes, whatever has landed of a payload', async () => {
    await begin({ sendTimeout: 300 })
    const talker = await Talker.using(rig.unix, 'gate', true)
    gate.shut = true
    talker.say(talker.request(Command.read, 0, 512, 5))
    talker.say(Buffer.concat([talker.request(Command.write, 0, MiB), Buffer.alloc(1000)]))
    await gate.waits(1)
    const drained = rig.service.drain()
    await sleep(1600)
    gate.letThrough()
    expect((await talker.answer()).cookie).to.equal(5)
    await drained
    talker.close()
  })

  it('answers errors while the device is away, and goes on when it is back', async () => {
    await begin({})
    const talker = await Talker.using(rig.unix, 'gate', true)
    gate.goOffline()
    expect((await talker.ask(Command.read, 0, 512)).error).to.equal(Errno.EIO)
    await gate.goOnline()
    expect((await talker.ask(Command.read, 0, 512)).error).to.equal(0)
    talker.close()
  })

  it('tells each client once that acknowledged writes are lost, later ones not', async () => {
    await begin({})
    const writer = await Talker.using(rig.unix, 'gate', true)
    const reader = await Talker.using(rig.tcp, 'gate', false)
    const flushes = async (talker: Talker): Promise<number> =>
      (await talker.ask(Command.flush, 0, 0)).error
    await writer.ask(Command.write, 0, 512, 0, Buffer.alloc(512, 1))
    await flushes(reader)
    gate.reboot('1'.repeat(32))
    expect([await flushes(writer), await flushes(reader)], 'all was flushed').to.eql([0, 0])
    await writer.ask(Command.write, 0, 512, 0, Buffer.alloc(512, 2))
    gate.reboot('2'.repeat(32))
    const late = await Talker.using(rig.unix, 'gate', true)
    expect(await flushes(late)).to.equal(0)
    expect([await flushes(writer), await flushes(reader)]).to.eql([Errno.EIO, Errno.EIO])
    expect([await flushes(writer), await flushes(reader)]).to.eql([0, 0])
    await writer.ask(Command.write, 0, 512, CommandFlag.fua, Buffer.alloc(512, 3))
    gate.reboot('3'.repeat(32))
    expect(await flushes(writer), 'forced to stable storage').to.equal(0)
    for (const talker of [writer, reader, late]) talker.close()
  })

  it('serves a thousand connections at once', async () => {
    await begin({})
    const talkers: Talker[] = []
    for (let at = 0; at < 10; at++) {
      const more = Array.from({ length: 100 }, () => Talker.using(rig.unix, 'gate', true))
      talkers.push(...(await Promise.all(more)))
    }
    expect(rig.service.clients().length).to.equal(1000)
    for (const talker of talkers) talker.say(talker.request(Command.read, 0, 512))
    for (const talker of talkers) expect((await talker.answer()).error).to.equal(0)
    for (const talker of talkers) talker.close()
  })

  it('sends a lone request, and its answer, before the turn ends', async () => {
    const clock = new StuckClock()
    rig = new Rig({}, 'landing', clock)
    await rig.listen()
    await rig.add('gate', gate)
    const device = nbdLeaf(rig.unix, 'gate', {}, { ...nbdWorld(), clock })
    await device.open()
    clock.stuck = true
    gate.shut = true
    const reading = read(device, 0, 512)
    await gate.waits(1)
    gate.letThrough()
    expect((await reading).length).to.equal(512)
    await device.close()
  })
})
