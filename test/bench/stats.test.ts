import { expect } from 'chai'
import {
  chanceOf,
  difference,
  holm,
  median,
  spreadOf,
  studentTail,
  trimmedMean,
} from '../../bench/compare/stats.ts'
import { normal } from './support.ts'
import { SeededRandom } from '../support/seeded.ts'

/** How likely it is that `after` is larger than `before` by no more than `margin`. */
function chance(before: readonly number[], after: readonly number[], margin: number): number {
  return chanceOf(difference(trimmedMean(before), trimmedMean(after)), margin)
}

function draw(count: number, value: () => number): number[] {
  return Array.from({ length: count }, value)
}

describe('statistics of the benchmark', () => {
  it('takes medians of odd and even numbers of values', () => {
    expect(median([3, 1, 2])).to.equal(2)
    expect(median([4, 1, 2, 3])).to.equal(2.5)
    expect(spreadOf([2, 3, 1])).to.deep.equal({ middle: 2, low: 1, high: 3 })
  })

  it("knows Student's t from the tables", () => {
    expect(studentTail(2.015, 5)).to.be.closeTo(0.05, 0.0002)
    expect(studentTail(-2.015, 5)).to.be.closeTo(0.95, 0.0002)
    expect(studentTail(3.143, 6)).to.be.closeTo(0.01, 0.0001)
    expect(studentTail(1.96, 1e6)).to.be.closeTo(0.025, 0.0001)
    expect(studentTail(1.96, Infinity)).to.be.closeTo(0.025, 0.0001)
  })

  it('leaves out a fifth of the values at either end', () => {
    const { mean, freedom } = trimmedMean([-1000, 1, 2, 3, 1000])
    expect(mean).to.equal(2)
    expect(freedom).to.equal(2)
  })

  it('errs as often as it says, and no oftener, on values from one source', () => {
    const random = new SeededRandom(7)
    let wrong = 0
    for (let n = 0; n < 2000; n++) {
      const values = (): number[] => draw(8, () => normal(random))
      if (chance(values(), values(), 0) < 0.05) wrong++
    }
    expect(wrong / 2000).to.be.within(0.02, 0.065)
  })

  it('errs no oftener where one value in ten is far off', () => {
    const random = new SeededRandom(13)
    const value = (): number =>
      normal(random) + (random.fraction() < 0.1 ? -30 * Math.log(1 - random.fraction()) : 0)
    let wrong = 0
    for (let n = 0; n < 2000; n++) if (chance(draw(8, value), draw(8, value), 0) < 0.05) wrong++
    expect(wrong / 2000).to.be.at.most(0.06)
  })

  it('finds a difference above the margin and none below it', () => {
    const before = [1.0, 1.02, 0.98, 1.01, 0.99]
    const more = (by: number): number[] => before.map((value) => value + by)
    expect(chance(before, more(0.15), 0.05)).to.be.below(0.005)
    expect(chance(before, more(0.04), 0.05)).to.be.above(0.5)
    // Too few to know how they vary: nothing is concluded.
    expect(chance([1], [2], 0)).to.equal(1)
    expect(chance([], [2, 2], 0)).to.equal(1)
  })

  it('is less sure for an error that the values do not show', () => {
    const found = difference(trimmedMean([1, 1.01, 0.99, 1]), trimmedMean([1.1, 1.11, 1.09, 1.1]))
    expect(chanceOf(found, 0)).to.be.below(0.001)
    expect(chanceOf(found, 0, 0.1 ** 2)).to.be.within(0.14, 0.18)
  })

  it('keeps the level over many tests', () => {
    expect(holm([0.01, 0.04, 0.02], 0.05)).to.deep.equal([true, true, true])
    expect(holm([0.01, 0.04, 0.03], 0.05)).to.deep.equal([true, false, false])
    expect(holm([0.02, 0.04, 0.03], 0.05)).to.deep.equal([false, false, false])
  })
})
