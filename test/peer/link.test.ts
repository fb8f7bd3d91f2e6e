import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { systemRandom } from '../../src/base/random.ts'
import { Slab } from '../../src/base/slab.ts'
import type { Address } from '../../src/net/address.ts'
import type { Network } from '../../src/net/network.ts'
import { Link, type LinkClient } from '../../src/peer/link.ts'
import { ManualClock } from '../support/clock.ts'
import { Sink } from '../support/sink.ts'

const address: Address = { kind: 'tcp', host: 'peer', port: 1 }
const lost = new StorageError('UNAVAILABLE', 'lost')

/** A connection that tells what it was told. */
class Client implements LinkClient {
  told = ''

  landing(): Buffer {
    return Buffer.alloc(1)
  }

  landed(): void {
    // Nothing is read.
  }

  sent(): void {
    // Nothing is sent.
  }

  closed(): void {
    // The test closes it.
  }

  end(): void {
    this.told += ' end'
  }

  destroy(): void {
    this.told += ' destroy'
  }
}

/** A link on a network where connections are made when the test says so. */
function rig(): {
  readonly clock: ManualClock
  readonly link: Link<Client>
  readonly events: string[]
  /** Of attempts to connect, by their order: succeed, or fail. */
  readonly attempts: { succeed(): Client; fail(): void }[]
} {
  const clock = new ManualClock()
  const events: string[] = []
  const attempts: { succeed(): Client; fail(): void }[] = []
  const clients: Client[] = []
  const network: Network = {
    connect(_address, _timeout, attach, failed) {
      const number = attempts.length
      attempts.push({
        succeed() {
          attach(new Sink())
          return clients.at(-1)!
        },
        fail: () => failed(lost),
      })
      return () => events.push(`attempt ${number} is given up`)
    },
    listen: () => Promise.reject(lost),
  }
  const user = {
    clientFor: () => () => {
      const client = new Client()
      clients.push(client)
      return client
    },
    ending: () => void events.push('ending'),
    down: () => void events.push('down'),
  }
  const world = { network, slab: new Slab(), clock, random: systemRandom }
  const link = new Link({ address, connectTimeout: 100 }, user, world)
  return { clock, link, events, attempts }
}

describe('a link', () => {
  it('ends with all its connections, and begins anew once all are closed', () => {
    const { clock, link, events, attempts } = rig()
    link.dial()
    const first = attempts[0]!.succeed()
    link.connect(1)
    link.connect(2)
    const second = attempts[1]!.succeed()
    link.gone(first)
    link.end(lost)
    expect(second.told).to.equal(' destroy')
    expect(events).to.deep.equal(['attempt 2 is given up', 'ending'])
    clock.advance(10_000)
    expect(attempts.length).to.equal(3)
    link.gone(second)
    link.end(lost)
    expect(events.at(-1)).to.equal('down')
    clock.advance(50)
    expect(attempts.length).to.equal(4)
    expect(link.dials).to.equal(2)
  })

  it('does without a further connection that fails, and not without the first', () => {
    const { link, events, attempts } = rig()
    link.dial()
    attempts[0]!.succeed()
    link.connect(1)
    attempts[1]!.fail()
    expect(events).to.deep.equal([])
    const other = rig()
    other.link.dial()
    other.attempts[0]!.fail()
    expect(other.events).to.deep.equal(['ending', 'down'])
  })

  it('gives others time to be closed by the peer, and lets the longest pause pass', () => {
    const { clock, link, events, attempts } = rig()
    link.dial()
    const first = attempts[0]!.succeed()
    link.connect(1)
    const second = attempts[1]!.succeed()
    link.gone(first)
    link.end(lost, 100, 5000)
    clock.advance(99)
    expect(second.told).to.equal('')
    clock.advance(1)
    expect(second.told).to.equal(' destroy')
    link.gone(second)
    link.end(lost, 100, 0)
    expect(events).to.deep.equal(['ending', 'down'])
    clock.advance(4999)
    expect(attempts.length).to.equal(2)
    clock.advance(1)
    expect(attempts.length).to.equal(3)
  })

  it('asks its connections to end when it is stopped, and begins no other', async () => {
    const { clock, link, events, attempts } = rig()
    link.dial()
    const first = attempts[0]!.succeed()
    const stopped = link.stop()
    expect(first.told).to.equal(' end')
    link.gone(first)
    await stopped
    link.end(lost)
    clock.advance(10_000)
    expect(events).to.deep.equal(['ending'])
    expect(attempts.length).to.equal(1)
  })

  it('makes no connection after it was stopped, whoever asks for one', async () => {
    const { link, attempts } = rig()
    link.dial()
    attempts[0]!.fail()
    await link.stop()
    link.dial()
    expect(attempts.length).to.equal(1)
  })

  it('begins no session while it rests', () => {
    const { clock, link, attempts } = rig()
    link.dial()
    attempts[0]!.fail()
    link.rest()
    clock.advance(10_000)
    expect(attempts.length).to.equal(1)
  })
})
