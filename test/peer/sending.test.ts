import { expect } from 'chai'
import { Slab } from '../../src/base/slab.ts'
import { Outbox } from '../../src/net/outbox.ts'
import { Sending } from '../../src/peer/sending.ts'
import { ManualClock } from '../support/clock.ts'
import { Sink } from '../support/sink.ts'

describe('the sending of requests', () => {
  for (const [first, what] of [
    ['alone', 'a lone one, and what the same event adds'],
    ['among', 'others'],
  ] as const)
    it(`hands ${what} to the socket together, once`, () => {
      const clock = new ManualClock()
      const sink = new Sink()
      const outbox = new Outbox(sink, new Slab(), clock)
      const sending = new Sending(outbox, clock)
      const request = (text: string, company: 'alone' | 'among'): void => {
        outbox.bytes.write(text, outbox.reserve(1))
        sending.schedule(company)
      }
      outbox.reserve(0)
      request('a', first)
      request('b', 'among')
      expect(sink.sent).to.eql([])
      clock.advance(0)
      request('c', first)
      clock.advance(0)
      expect(sink.sent).to.eql(['ab', 'c'])
      outbox.close()
    })
})
