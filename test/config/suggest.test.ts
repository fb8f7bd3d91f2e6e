import { expect } from 'chai'
import { nearest } from '../../src/config/suggest.ts'
import { parseSource } from '../../src/config/source.ts'
import { describeDuration, parseDuration } from '../../src/base/duration.ts'
import fc from 'fast-check'

describe('words that were meant', () => {
  it('are near in letters', () => {
    const words = ['size', 'path', 'readOnly', 'create']
    expect(nearest('siez', words)).to.equal('size')
    expect(nearest('readonly', words)).to.equal('readOnly')
    expect(nearest('crate', words)).to.equal('create')
    expect(nearest('banana', words)).to.equal(null)
    expect(nearest('x', ['a'])).to.equal(null)
  })
})

describe('the places in a JSON text', () => {
  it('are found in any JSON', () => {
    fc.assert(
      fc.property(fc.json(), fc.constantFrom(0, 1, 4), (text, indent) => {
        const pretty = JSON.stringify(JSON.parse(text), null, indent)
        const source = parseSource(pretty)
        expect(source.duplicates).to.deep.equal([])
        expect(source.value).to.deep.equal(JSON.parse(text))
        expect(source.places.get('')).to.deep.equal({ line: 1, column: 1 })
        const lines = [...source.places.values()].map(({ line }) => line)
        expect(Math.max(...lines)).to.be.at.most(pretty.split('\n').length)
      }),
    )
  })

  it('count keys with slashes and tildes as pointers do', () => {
    const { places } = parseSource('{\n"a/b~c": [\n1,\n  2]}')
    expect(places.get('/a~1b~0c/1')).to.deep.equal({ line: 4, column: 3 })
  })
})

describe('durations', () => {
  it('are whole milliseconds', () => {
    expect(parseDuration('1.5s')).to.equal(1500)
    expect(parseDuration(250)).to.equal(250)
    expect(parseDuration('2h')).to.equal(7_200_000)
    for (const text of ['', 's', '1', '1.0001s', '-1s', '1 s', NaN, 1e300])
      expect(parseDuration(text), String(text)).to.equal(null)
  })

  it('are told in two units', () => {
    expect([900, 341_000, 7_380_000, 1e9].map(describeDuration)).to.deep.equal([
      '1s',
      '5m 41s',
      '2h 3m',
      '11d 13h',
    ])
  })
})
