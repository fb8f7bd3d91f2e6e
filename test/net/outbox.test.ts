import { expect } from 'chai'
import { KiB, MiB } from '../../src/base/size.ts'
import { Slab } from '../../src/base/slab.ts'
import { Operation, Request } from '../../src/device/request.ts'
import { Outbox } from '../../src/net/outbox.ts'
import { ManualClock } from '../support/clock.ts'
import { Sink } from '../support/sink.ts'

const batchBytes = 256 * KiB

describe('an outbox', () => {
  let clock: ManualClock
  let sink: Sink
  let outbox: Outbox
  beforeEach(() => {
    clock = new ManualClock()
    sink = new Sink(batchBytes)
    outbox = new Outbox(sink, new Slab(), clock)
  })
  afterEach(() => outbox.close())

  /** A header of one byte, and a payload. */
  function reply(header: string, length: number): void {
    const at = outbox.reserve(1)
    outbox.bytes.write(header, at)
    const request = Request.take(Operation.read, 0, length, 0, { completed: () => undefined })
    request.append(Buffer.alloc(length, header), null)
    outbox.payload(request)
    request.abandon()
  }

  /** The first letter and the length of each batch. */
  function batches(): string[] {
    return sink.sent.map((text) => `${text[0]!} ${text.length}`)
  }

  it('hands over a batch that is large enough, and goes on gathering', () => {
    outbox.gather()
    reply('a', batchBytes / 2)
    outbox.schedule()
    expect(batches()).to.eql([])
    reply('b', batchBytes / 2)
    outbox.schedule()
    reply('c', 20 * KiB)
    outbox.schedule()
    clock.advance(0)
    expect(batches()).to.eql([`a ${2 + batchBytes}`])
    outbox.leave(true)
    expect(batches()).to.eql([`a ${2 + batchBytes}`, `c ${1 + 20 * KiB}`])
    while (outbox.bytesQueued > 0) outbox.sent()
  })

  it('is full while more than 2 MiB wait for the socket', () => {
    reply('a', 2 * MiB)
    expect(outbox.full, 'the socket took it').to.equal(false)
    sink.takes = false
    reply('b', MiB)
    expect(outbox.full).to.equal(false)
    reply('c', MiB)
    expect(outbox.full).to.equal(true)
    outbox.sent()
    expect(outbox.full, 'only the first one left').to.equal(true)
    outbox.sent()
    expect(outbox.full).to.equal(false)
    outbox.sent()
  })

  it('knows what waits, though something was taken before it was told of what waited', () => {
    for (let round = 0; round < 10; round++) {
      sink.takes = false
      reply('a', MiB)
      reply('b', 2 * MiB)
      outbox.sent()
      // All has left meanwhile, and only the first was told.
      sink.takes = true
      reply('c', 512 * KiB)
      outbox.sent()
      outbox.sent()
      expect(outbox.bytesQueued).to.equal(0)
    }
    sink.takes = false
    reply('d', MiB)
    expect(outbox.full, 'nothing was left over').to.equal(false)
    reply('e', MiB)
    expect(outbox.full).to.equal(true)
    outbox.sent()
    outbox.sent()
  })
})
