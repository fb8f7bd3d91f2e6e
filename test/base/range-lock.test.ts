import { expect } from 'chai'
import fc from 'fast-check'
import { RangeLock, type RangeHolder } from '../../src/base/range-lock.ts'

class Holder implements RangeHolder {
  readonly rangeFrom: number
  readonly rangeTo: number
  holds = false

  constructor(from: number, length: number) {
    this.rangeFrom = from
    this.rangeTo = from + length
  }

  granted(): void {
    this.holds = true
  }

  overlaps(other: Holder): boolean {
    return this.rangeFrom < other.rangeTo && other.rangeFrom < this.rangeTo
  }
}

function held(holders: readonly Holder[]): Holder | undefined {
  return holders.find(({ holds }) => holds)
}

describe('a range lock', () => {
  it('grants in order of arrival and never twice', () => {
    const steps = fc.array(fc.tuple(fc.nat(100), fc.integer({ min: 1, max: 30 }), fc.nat(3)), {
      maxLength: 60,
    })
    fc.assert(
      fc.property(steps, (wanted) => {
        const lock = new RangeLock()
        const living: Holder[] = []
        const check = (): void => {
          for (const [at, one] of living.entries()) {
            const before = living.slice(0, at).filter((other) => other.overlaps(one))
            // Held exactly when nobody who came before stands in the way.
            expect(one.holds).to.equal(before.length === 0)
          }
        }
        for (const [from, length, releases] of wanted) {
          const holder = new Holder(from, length)
          living.push(holder)
          if (lock.acquire(holder)) holder.granted()
          check()
          for (let count = 0; count < releases; count++) {
            const released = held(living)
            if (released === undefined) break
            living.splice(living.indexOf(released), 1)
            lock.release(released)
            check()
          }
        }
        // What is left is all that is held: then the whole range is free.
        for (let next = held(living); next !== undefined; next = held(living)) {
          living.splice(living.indexOf(next), 1)
          lock.release(next)
        }
        expect(living).to.deep.equal([])
        expect(lock.acquire(new Holder(0, 200))).to.equal(true)
      }),
    )
  })

  it('lets a holder that is done at once give its range on', () => {
    const lock = new RangeLock()
    const first = new Holder(0, 10)
    expect(lock.acquire(first)).to.equal(true)
    let carried = 0
    for (let count = 0; count < 1000; count++) {
      const holder: RangeHolder = {
        rangeFrom: 0,
        rangeTo: 10,
        granted: () => {
          carried++
          lock.release(holder)
        },
      }
      expect(lock.acquire(holder)).to.equal(false)
    }
    lock.release(first)
    expect(carried).to.equal(1000)
    expect(lock.acquire(first)).to.equal(true)
  })
})
