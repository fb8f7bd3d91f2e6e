import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import type { Device } from '../../src/device/device.ts'
import { Flag, Operation } from '../../src/device/request.ts'
import { ChunkType, Errno, type RequestHeader } from '../../src/nbd/codec.ts'
import * as options from '../../src/nbd/options.ts'
import { Info, Option, Reply } from '../../src/nbd/options.ts'
import { flush, submit, write, type Outcome } from '../support/io.ts'
import * as fake from './fake.ts'
import { chunk, data, failure, FakeServer, hole, simple, words } from './fake.ts'
import { nbdLeaf, nbdWorld } from './leaf.ts'
import type { Talker } from './talker.ts'

const size = 64 * MiB
const { none, offsetData, offsetHole, blockStatus, error, errorOffset } = ChunkType
const nothing = Buffer.alloc(0)

/** A request whose cookie is off by so much. */
function other(request: RequestHeader, high: number, low: number): RequestHeader {
  const { cookieHigh, cookieLow } = request
  return Object.assign(request, { cookieHigh: cookieHigh + high, cookieLow: cookieLow + low })
}

/** What a server answers to a request, in one piece. */
type Says = (request: RequestHeader) => Buffer[]

describe('the NBD client before a server that', () => {
  let server: FakeServer
  let leaf: Device
  const world = nbdWorld()
  afterEach(async () => {
    await server.close()
    await leaf.close()
    expect(world.slab.bytesHeld).to.equal(0)
  })

  async function before(script: (talker: Talker) => Promise<void>): Promise<void> {
    server = await FakeServer.start(script)
    const patience = { connectTimeout: 3000, requestTimeout: 3000, quiesce: 0, hold: 300 }
    leaf = nbdLeaf(server.address, 'm', patience, world)
    await leaf.open()
  }

  /** One request to a server that answers so, and with silence whatever comes after. */
  async function ask(
    says: Says,
    operation: Operation,
    structured = true,
    offset = 8192,
    length = 8192,
  ): Promise<Outcome> {
    await before(async (talker) => {
      await fake.shakeHands(talker, { size, structured })
      const request = await fake.takeRequest(talker)
      talker.say(Buffer.concat(says(request)))
      await talker.closed()
    })
    return submit(leaf, operation, offset, length)
  }

  const good: [string, Says, number][] = [
    ['answers in order', (r) => [chunk(r, offsetData, data(8192, 8192), true)], 8192],
    [
      'answers backwards',
      (r) => [
        chunk(r, offsetData, data(14000, 2384)),
        chunk(r, offsetData, data(10000, 4000)),
        chunk(r, offsetData, data(8192, 1808), true),
      ],
      8192,
    ],
    [
      'mixes holes and data',
      (r) => [
        chunk(r, offsetHole, hole(12288, 4096)),
        chunk(r, offsetData, data(8192, 4096)),
        chunk(r, none, nothing, true),
      ],
      4096,
    ],
  ]
  for (const [what, says, ones] of good)
    it(`${what}: takes it`, async () => {
      const outcome = await ask(says, Operation.read)
      expect(outcome.error).to.equal(null)
      expect(outcome.data.length).to.equal(8192)
      expect(outcome.data.reduce((sum, byte) => sum + byte, 0)).to.equal(ones)
      expect(leaf.state.word).to.equal('online')
    })

  const failed: [string, Says, string][] = [
    ['fails a read', (r) => [chunk(r, error, failure(28, 'full'), true)], 'NO_SPACE'],
    [
      'fails a read after half of it',
      (r) => [
        chunk(r, offsetData, data(8192, 4096)),
        chunk(r, errorOffset, Buffer.concat([failure(5, ''), data(12288, 0)])),
        chunk(r, none, nothing, true),
      ],
      'IO',
    ],
    [
      'fails with an error of an unknown kind',
      (r) => [chunk(r, 0x8123, failure(1, 'no'), true)],
      'READ_ONLY',
    ],
    ['fails with an unknown number', (r) => [chunk(r, error, failure(77, ''), true)], 'INVALID'],
  ]
  for (const [what, says, code] of failed)
    it(`${what}: passes the error on`, async () => {
      const outcome = await ask(says, Operation.read)
      expect(outcome.error?.code).to.equal(code)
      expect(outcome.data.length).to.equal(0)
      expect(leaf.state.word).to.equal('online')
    })

  const badReads: [string, Says][] = [
    ['has another magic', () => [Buffer.alloc(64, 0x66)]],
    ['answers what was not asked', (r) => [chunk(other(r, 0, 9), none, nothing)]],
    ['answers an older use', (r) => [chunk(other(r, 9, 0), none, nothing)]],
    ['has negative cookies', (r) => [chunk(other(r, 0, -r.cookieLow - 1), none, nothing)]],
    ['sends a simple reply to a read', (r) => [simple(r, 0), Buffer.alloc(8192)]],
    ['sends data before the range', (r) => [chunk(r, offsetData, data(8000, 8192), true)]],
    ['sends data beyond the range', (r) => [chunk(r, offsetData, data(8192, 8193), true)]],
    ['sends data far beyond', (r) => [chunk(r, offsetData, data(2 ** 52, 512), true)]],
    [
      'sends data twice',
      (r) => [chunk(r, offsetData, data(8192, 4096)), chunk(r, offsetData, data(12287, 4097))],
    ],
    [
      'sends overlapping pieces',
      (r) => [chunk(r, offsetData, data(12288, 2048)), chunk(r, offsetData, data(12000, 512))],
    ],
    [
      'leaves data out',
      (r) => [chunk(r, offsetData, data(8192, 4096)), chunk(r, none, nothing, true)],
    ],
    [
      'leaves data out in the middle',
      (r) => [
        chunk(r, offsetData, data(8192, 4096)),
        chunk(r, offsetData, data(12800, 3584), true),
      ],
    ],
    ['says that nothing is all', (r) => [chunk(r, none, nothing, true)]],
    ['sends a chunk without data', (r) => [chunk(r, offsetData, data(8192, 0))]],
    ['sends an empty hole', (r) => [chunk(r, offsetHole, hole(8192, 0))]],
    ['sends a hole too long', (r) => [chunk(r, offsetHole, hole(8192, 0xffff_ffff))]],
    ['sends a hole of a wrong form', (r) => [chunk(r, offsetHole, Buffer.alloc(13))]],
    ['sends an unknown chunk', (r) => [chunk(r, 77, nothing, true)]],
    ['ends without an end', (r) => [chunk(r, none, nothing, false)]],
    ['sends a block status for a read', (r) => [chunk(r, blockStatus, words(5, 1, 1), true)]],
    ['sends an error too short', (r) => [chunk(r, error, Buffer.alloc(5), true)]],
    ['sends an error that lies', (r) => [chunk(r, error, failure(5, 'abc', 4), true)]],
    ['sends an error too long', (r) => [chunk(r, error, Buffer.alloc(100_000), true)]],
    [
      'announces 4 GiB',
      (r) => {
        const bytes = chunk(r, offsetData, data(8192, 100))
        bytes.writeUInt32BE(0xffff_ffff, 16)
        return [bytes]
      },
    ],
    [
      'sends crumbs without end',
      (r) => Array.from({ length: 60 }, (_, at) => chunk(r, offsetData, data(16383 - at, 1))),
    ],
  ]
  for (const [what, says] of badReads)
    it(`${what}: closes the connection`, async () => {
      const outcome = await ask(says, Operation.read)
      expect(outcome.error?.code).to.equal('PROTOCOL')
      expect(leaf.state.word).to.equal('degraded')
    })

  const badStatus: [string, Says][] = [
    ['has another context', (r) => [chunk(r, blockStatus, words(4, 8192, 0), true)]],
    ['has an empty run', (r) => [chunk(r, blockStatus, words(5, 0, 0), true)]],
    ['has no run', (r) => [chunk(r, blockStatus, words(5), true)]],
    ['has half a run', (r) => [chunk(r, blockStatus, words(5, 8192), true)]],
    ['answers twice', (r) => [1, 2].map(() => chunk(r, blockStatus, words(5, 8192, 0)))],
    ['does not answer', (r) => [simple(r, 0)]],
    ['ends without an answer', (r) => [chunk(r, none, nothing, true)]],
  ]
  for (const [what, says] of badStatus)
    it(`in a block status ${what}: closes the connection`, async () => {
      expect((await ask(says, Operation.status)).error?.code).to.equal('PROTOCOL')
    })

  it('tells more block status than was asked: takes what was', async () => {
    const runs = Array.from({ length: 20_000 }, (_, at) => [4096, at % 4]).flat()
    const all = await ask((r) => [chunk(r, blockStatus, words(5, ...runs), true)], Operation.status)
    expect(all.error).to.equal(null)
    expect(all.lengths).to.deep.equal([4096, 4096])
    expect(all.flags).to.deep.equal([0, 2])
  })

  it('sends a chunk that was not agreed on: closes the connection', async () => {
    const says: Says = (r) => [chunk(r, offsetData, data(8192, 8192), true)]
    expect((await ask(says, Operation.read, false)).error?.code).to.equal('PROTOCOL')
  })

  it('answers a write with data: closes the connection', async () => {
    const outcome = await ask((r) => [chunk(r, offsetData, data(8192, 8192), true)], Operation.trim)
    expect(outcome.error?.code).to.equal('PROTOCOL')
  })

  for (const [what, operation, flags] of [
    ['a flush', Operation.flush, 0],
    ['a forced write', Operation.write, Flag.fua],
  ] as const)
    for (const errno of [Errno.EINVAL, Errno.ENOMEM, Errno.ENOTSUP, Errno.EOVERFLOW, 110])
      it(`fails ${what} with error ${errno}: has lost what was not flushed`, async () => {
        await before(async (talker) => {
          await fake.shakeHands(talker, { size, structured: true })
          talker.say(simple(await fake.takeRequest(talker), 0))
          talker.say(simple(await fake.takeRequest(talker), errno))
          talker.say(simple(await fake.takeRequest(talker), 0))
          await talker.closed()
        })
        const block = Buffer.alloc(4096, 1)
        await write(leaf, 0, block)
        const { bootId } = leaf.facts!
        const payload = operation === Operation.write ? [block] : []
        const length = operation === Operation.write ? 4096 : 0
        const { error } = await submit(leaf, operation, 0, length, flags, payload)
        expect(error?.code).to.equal('IO')
        expect(leaf.losses).to.equal(1)
        expect(leaf.facts!.bootId).to.not.equal(bootId)
        await flush(leaf)
      })

  it('cannot zero fast: has lost nothing', async () => {
    await before(async (talker) => {
      await fake.shakeHands(talker, { size, structured: true, fastZero: true })
      talker.say(simple(await fake.takeRequest(talker), Errno.ENOTSUP))
      await talker.closed()
    })
    const flags = Flag.fua | Flag.fastZero
    const { error } = await submit(leaf, Operation.writeZeroes, 0, 4096, flags)
    expect(error?.code).to.equal('UNSUPPORTED')
    expect(leaf.losses).to.equal(0)
  })

  it('never answers: fails the request in time', async () => {
    const outcome = await ask(() => [], Operation.read)
    expect(outcome.error?.code).to.equal('TIMEOUT')
  })

  it('knows only the oldest option: is used all the same', async () => {
    await before(async (talker) => {
      await fake.shakeHands(talker, { size, structured: false, modern: false })
      for (;;) {
        const request = await fake.takeRequest(talker)
        talker.say(Buffer.concat([simple(request, 0), Buffer.alloc(request.length, 3)]))
      }
    })
    expect(leaf.facts).to.include({ size, status: 'none', fua: 'native', blockSize: 1 })
    const read = await submit(leaf, Operation.read, 0, 512)
    expect(read.data.equals(Buffer.alloc(512, 3))).to.equal(true)
  })

  const info = (bytes: bigint): Buffer =>
    options.encodeInfo({ info: Info.export, size: bytes, flags: 1 })
  const block = (minimum: number, preferred: number, maximum: number): Buffer =>
    options.encodeInfo({ info: Info.blockSize, minimum, preferred, maximum })
  const reply = (option: number, type: number, payload: Buffer = nothing): Buffer =>
    options.encodeOptionReply(option, type, payload)
  const go = (...replies: [number, Buffer?][]): Buffer[] => [
    reply(Option.structuredReply, Reply.errUnsup),
    ...replies.map(([type, payload]) => reply(Option.go, type, payload)),
  ]
  const long = reply(Option.structuredReply, Reply.ack)
  long.writeUInt32BE(0xffff_ffff, 16)

  const openings: [string, Buffer[], string][] = [
    ['is no NBD server', [Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')], 'not an NBD server'],
    ['says nothing', [], 'no handshake within 3000 ms'],
    ['answers another option', [reply(Option.list, Reply.ack)], 'was not sent'],
    ['has another magic in a reply', [Buffer.alloc(20)], 'magic'],
    ['replies 4 GiB', [long], 'too long'],
    ['insists on TLS', go([Reply.errTlsReqd, Buffer.from('really')]), 'TLS'],
    ['accepts without a size', go([Reply.ack]), 'without saying the size'],
    ['has 2^63 bytes', go([Reply.info, info(2n ** 63n)], [Reply.ack]), 'larger than'],
    ['has a broken information', go([Reply.info, Buffer.alloc(5)]), 'does not parse'],
    [
      'has blocks of 3',
      go([Reply.info, info(512n)], [Reply.info, block(3, 4, 8)], [Reply.ack]),
      'block sizes',
    ],
    [
      'has blocks of 0',
      go([Reply.info, info(512n)], [Reply.info, block(0, 0, 0)], [Reply.ack]),
      'block sizes',
    ],
    [
      'takes a byte at a time',
      go([Reply.info, info(2n ** 20n)], [Reply.info, block(1, 512, 1)], [Reply.ack]),
      'block sizes',
    ],
    [
      'takes 512 bytes at a time',
      go([Reply.info, info(2n ** 20n)], [Reply.info, block(1, 512, 512)], [Reply.ack]),
      'block sizes',
    ],
    [
      'answers without end',
      Array.from({ length: 10_001 }, () => go([Reply.info, info(1n)])[1]!),
      'not sent',
    ],
  ]
  for (const [what, bytes, reason] of openings)
    it(`${what}: says so`, async () => {
      await before(async (talker) => {
        if (what !== 'is no NBD server' && bytes.length > 0) talker.say(options.encodeGreeting())
        talker.say(Buffer.concat(bytes))
        await talker.closed()
      })
      expect(leaf.state.word).to.equal('opening')
      expect(leaf.state.reason).to.contain(reason)
    })
})
