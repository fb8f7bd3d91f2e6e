import { expect } from 'chai'
import fc from 'fast-check'
import { Bitmap } from '../../src/base/bitmap.ts'

const length = 9000
const bits = fc.array(fc.nat(length - 1), { maxLength: 200 })

function setBits(map: Bitmap): number[] {
  const found: number[] = []
  for (let bit = map.next(0); bit !== -1; bit = map.next(bit + 1)) found.push(bit)
  return found
}

function sorted(values: Iterable<number>): number[] {
  return [...new Set(values)].sort((one, other) => one - other)
}

describe('a bitmap', () => {
  it('agrees with a set', () => {
    fc.assert(
      fc.property(bits, bits, (set, cleared) => {
        const map = new Bitmap(length)
        const model = new Set<number>()
        for (const bit of set) expect(map.set(bit)).to.equal(!model.has(bit) && !!model.add(bit))
        for (const bit of cleared) expect(map.clear(bit)).to.equal(model.delete(bit))
        expect(setBits(map)).to.deep.equal(sorted(model))
        expect(map.count).to.equal(model.size)
      }),
    )
  })

  it('merges and copies', () => {
    fc.assert(
      fc.property(bits, bits, (some, more) => {
        const one = new Bitmap(length)
        const other = new Bitmap(length)
        for (const bit of some) one.set(bit)
        for (const bit of more) other.set(bit)
        one.merge(other)
        expect(setBits(one)).to.deep.equal(sorted([...some, ...more]))
        one.copy(other)
        expect(setBits(one)).to.deep.equal(sorted(more))
        expect(one.count).to.equal(new Set(more).size)
      }),
    )
  })

  it('counts no bit beyond its end', () => {
    for (const odd of [1, 7, 8, 4095, 4096, 4097, 9001]) {
      const map = new Bitmap(odd)
      map.setAll()
      expect(map.count).to.equal(odd)
      expect(map.next(odd - 1)).to.equal(odd - 1)
      expect(map.next(odd)).to.equal(-1)
      map.clearAll()
      expect(map.next(0)).to.equal(-1)
    }
  })
})
