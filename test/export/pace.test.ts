import { expect } from 'chai'
import { KiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import { Pace, Pacer, unlimited, type Rates } from '../../src/export/pace.ts'
import { ManualClock } from '../support/clock.ts'

const { read, write, trim, writeZeroes, flush, status } = Operation

/** One connection that asks for the same again and again. */
class Asker {
  readonly pacer = new Pacer(this)
  /** When each request passed, in milliseconds. */
  readonly passed: number[] = []
  private readonly clock: ManualClock
  private readonly length: number

  constructor(clock: ManualClock, pace: Pace, length: number) {
    this.clock = clock
    this.length = length
    this.pacer.follow(pace)
  }

  /** Asks until it has to wait, or has had enough. */
  ask(most = Infinity): void {
    for (let count = 0; count < most && this.pacer.may(write, this.length); count++) {
      this.pacer.used()
      this.passed.push(this.clock.now())
    }
  }

  paced(): void {
    this.ask()
  }
}

describe('the pace of an export', () => {
  let clock: ManualClock
  let pace: Pace
  const limit = (rates: Partial<Rates>): void => pace.become({ ...unlimited, ...rates })
  const asker = (length: number): Asker => new Asker(clock, pace, length)

  beforeEach(() => {
    clock = new ManualClock()
    pace = new Pace(clock)
  })

  it('lets a burst through, and from then on the rate', () => {
    limit({ operationsPerSecond: 10, operationsBurst: 5 })
    const one = asker(512)
    one.ask()
    expect(one.passed.length).to.equal(5)
    clock.advance(1000)
    expect(one.passed.length).to.equal(15)
    expect(one.passed.slice(5, 8)).to.deep.equal([100, 200, 300])
    expect(clock.pending, 'one timer').to.equal(1)
    expect([pace.waiting, pace.throttles]).to.deep.equal([1, true])
    one.pacer.leave()
    expect(clock.pending).to.equal(0)
    clock.advance(60_000)
    expect(pace.throttles).to.equal(false)
    one.ask()
    expect(one.passed.length, 'no more than a burst, however long the pause').to.equal(20)
  })

  it('counts bytes beside operations, and both have to be there', () => {
    limit({
      operationsPerSecond: 100,
      operationsBurst: 100,
      bytesPerSecond: 8192,
      bytesBurst: 8192,
    })
    const one = asker(4096)
    one.ask()
    expect(one.passed).to.deep.equal([0, 0])
    clock.advance(2000)
    expect(one.passed.slice(2)).to.deep.equal([500, 1000, 1500, 2000])
  })

  it('lets a request through that is larger than a burst, and makes up for it', () => {
    limit({ bytesPerSecond: 4096, bytesBurst: 8192 })
    const large = asker(64 * KiB)
    large.ask(1)
    expect(large.passed).to.deep.equal([0])
    const small = asker(4096)
    small.ask(1)
    clock.advance(60_000)
    // 64 KiB less the 8 KiB that were there, and 4 KiB for itself.
    expect(small.passed[0]).to.equal(((64 - 8 + 4) * KiB) / 4.096)
  })

  it('is shared: each connection that waits gets one request after the other', () => {
    limit({ operationsPerSecond: 10, operationsBurst: 1 })
    const [greedy, other] = [asker(512), asker(512)]
    greedy.ask()
    other.ask()
    clock.advance(10_000)
    expect(greedy.passed.length + other.passed.length).to.equal(101)
    expect(other.passed.length).to.be.within(49, 51)
  })

  it('is one timer for any number of connections, and does not go round in circles', () => {
    limit({ operationsPerSecond: 1000, operationsBurst: 1 })
    const all = Array.from({ length: 1000 }, () => asker(512))
    for (const one of all) one.ask()
    expect(clock.pending).to.equal(1)
    clock.advance(2000)
    const total = all.reduce((sum, { passed }) => sum + passed.length, 0)
    expect(total).to.equal(2001)
    expect(Math.max(...all.map(({ passed }) => passed.length))).to.be.at.most(3)
    for (const { pacer } of all) pacer.leave()
    expect([pace.waiting, clock.pending]).to.deep.equal([0, 0])
  })

  it('is kept up also where more pass in a millisecond than are let go on at once', () => {
    limit({ operationsPerSecond: 100_000, operationsBurst: 1 })
    const all = Array.from({ length: 4 }, () => asker(512))
    for (const one of all) one.ask(1)
    pace.become({ ...pace.rates, operationsBurst: 1000 })
    for (const one of all) one.ask(1)
    for (const one of all) one.ask()
    const total = (): number => all.reduce((sum, { passed }) => sum + passed.length, 0)
    clock.advance(0)
    const before = total()
    clock.advance(10)
    expect(total() - before).to.be.within(999, 1001)
    for (const { pacer } of all) pacer.leave()
  })

  it('changes while connections wait: debts are forgiven, and without limits all go on', () => {
    limit({ bytesPerSecond: 4096, bytesBurst: 4096 })
    const [large, small] = [asker(1024 * KiB), asker(4096)]
    large.ask(1)
    small.ask(1)
    expect(small.passed.length).to.equal(0)
    limit({ bytesPerSecond: 4096, bytesBurst: 4096 })
    clock.advance(1000)
    expect(small.passed.length, 'the same limits change nothing').to.equal(0)
    limit({ bytesPerSecond: 8192, bytesBurst: 8192 })
    clock.advance(0)
    expect(small.passed.length).to.equal(2)
    pace.become(unlimited)
    small.pacer.leave()
    expect(small.pacer.may(write, 1e9)).to.equal(true)
  })

  it('takes what a request needs once, also when that waits for room after it', () => {
    limit({ operationsPerSecond: 1, operationsBurst: 2 })
    const { pacer } = asker(512)
    for (let again = 0; again < 5; again++) expect(pacer.may(read, 512)).to.equal(true)
    pacer.used()
    expect(pacer.may(trim, 512)).to.equal(true)
    pacer.used()
    expect(pacer.may(writeZeroes, 512)).to.equal(false)
    expect(pacer.may(flush, 0)).to.equal(true)
    expect(pacer.may(status, 512)).to.equal(true)
    pacer.leave()
  })
})
