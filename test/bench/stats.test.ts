import { expect } from 'chai'
import { bootstrap, holm, median, pairedRatio, studentTail, welch } from '../../bench/stats.ts'
import { SeededRandom } from '../../src/base/random.ts'

/** A normal variate by Box and Muller (1958). */
function normal(random: SeededRandom): number {
  const radius = Math.sqrt(-2 * Math.log(1 - random.fraction()))
  return radius * Math.cos(2 * Math.PI * random.fraction())
}

describe('statistics of the benchmark', () => {
  it('takes medians of odd and even numbers of values', () => {
    expect(median([3, 1, 2])).to.equal(2)
    expect(median([4, 1, 2, 3])).to.equal(2.5)
  })

  it('pairs ratios round by round', () => {
    expect(pairedRatio([2, 6, 4], [1, 2, 4])).to.deep.equal({ middle: 2, low: 1, high: 3 })
  })

  it("knows Student's t from the tables", () => {
    expect(studentTail(2.015, 5)).to.be.closeTo(0.05, 0.0002)
    expect(studentTail(-2.015, 5)).to.be.closeTo(0.95, 0.0002)
    expect(studentTail(3.143, 6)).to.be.closeTo(0.01, 0.0001)
    expect(studentTail(1.96, 1e6)).to.be.closeTo(0.025, 0.0001)
  })

  it('errs as often as it says, and no oftener, on values from one source', () => {
    const random = new SeededRandom(7)
    let wrong = 0
    for (let n = 0; n < 2000; n++) {
      const draw = (): number[] => Array.from({ length: 5 }, () => normal(random))
      if (welch(draw(), draw(), 0) < 0.05) wrong++
    }
    expect(wrong / 2000).to.be.within(0.03, 0.065)
  })

  it('finds a difference above the margin and none below it', () => {
    const before = [1.0, 1.02, 0.98, 1.01, 0.99]
    expect(
      welch(
        before,
        before.map((value) => value + 0.15),
        0.05,
      ),
    ).to.be.below(0.001)
    expect(
      welch(
        before,
        before.map((value) => value + 0.04),
        0.05,
      ),
    ).to.be.above(0.5)
    expect(welch([1], [2], 0)).to.equal(1)
  })

  it('keeps the level over many tests', () => {
    expect(holm([0.01, 0.04, 0.02], 0.05)).to.deep.equal([true, true, true])
    expect(holm([0.01, 0.04, 0.03], 0.05)).to.deep.equal([true, false, false])
    expect(holm([0.02, 0.04, 0.03], 0.05)).to.deep.equal([false, false, false])
  })

  it('covers the median as often as it promises', () => {
    const random = new SeededRandom(11)
    let covered = 0
    for (let n = 0; n < 200; n++) {
      const values = Array.from({ length: 15 }, () => normal(random))
      const { low, high } = bootstrap(values, 0.95, random, 300)
      if (low <= 0 && high >= 0) covered++
    }
    expect(covered / 200).to.be.within(0.88, 1)
  })
})
