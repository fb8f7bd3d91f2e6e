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
    outbox.leave('now')
    expect(batches()).to.eql([`a ${2 + batchBytes}`, `c ${1 + 20 * KiB}`])
    while (outbox.bytesQueued > 0) outbox.sent()
  })

  it('is full while more than 4 MiB wait, small or large, handed over or not', () => {
    for (const length of [4 * KiB, 16 * KiB, MiB]) {
      for (let bytes = 0; bytes < 4 * MiB; bytes += length) reply('a', length)
      expect(outbox.full).to.equal(false)
      reply('b', length)
      expect(outbox.full).to.equal(true)
      outbox.flush()
      while (outbox.bytesQueued > 0) outbox.sent()
      expect(outbox.full).to.equal(false)
    }
  })
})
