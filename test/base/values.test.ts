import { expect } from 'chai'
import fc from 'fast-check'
import { codes, StorageError, systemError } from '../../src/base/errors.ts'
import { Ring } from '../../src/base/ring.ts'
import {
  describeSize,
  formatSize,
  parseSize,
  roundDown,
  roundUp,
  sizeMeant,
} from '../../src/base/size.ts'
import { SeededRandom } from '../support/seeded.ts'

describe('a size', () => {
  it('is read back as it was written', () => {
    const bytes = fc.oneof(
      fc.maxSafeNat(),
      fc
        .integer({ min: 0, max: 1023 })
        .chain((value) => fc.integer({ min: 0, max: 4 }).map((power) => value * 1024 ** power)),
    )
    fc.assert(fc.property(bytes, (value) => parseSize(formatSize(value)) === value))
  })

  it('takes numbers and powers of 1024, and nothing else', () => {
    const known = { '0': 0, '4096': 4096, '64K': 65_536, '1.5T': 1.5 * 1024 ** 4, '0.5K': 512 }
    for (const [text, bytes] of Object.entries(known)) expect(parseSize(text)).to.equal(bytes)
    for (const text of ['', '-1', '1k', '1 K', '1KB', '0.3', '1e3', 'K', '9P9', '9007199254740992'])
      expect(parseSize(text), text).to.equal(null)
    expect(parseSize(12)).to.equal(12)
    expect(describeSize(43_164_000_000)).to.equal('40.2 GiB')
  })

  it('is rounded to multiples', () => {
    const step = fc.integer({ min: 0, max: 30 }).map((power) => 2 ** power)
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 52 }), step, (value, multiple) => {
        const down = roundDown(value, multiple)
        const up = roundUp(value, multiple)
        expect([down % multiple, up % multiple]).to.deep.equal([0, 0])
        expect(down <= value && value - down < multiple).to.equal(true)
        expect(up >= value && up - value < multiple).to.equal(true)
      }),
    )
  })
})

describe('a ring', () => {
  it('is a queue', () => {
    fc.assert(
      fc.property(fc.array(fc.option(fc.integer()), { maxLength: 300 }), (steps) => {
        const ring = new Ring<number>()
        const model: number[] = []
        for (const step of steps) {
          if (step === null) expect(ring.shift()).to.equal(model.shift())
          else {
            ring.push(step)
            model.push(step)
          }
          expect(ring.length).to.equal(model.length)
          expect(ring.peek()).to.equal(model[0])
        }
      }),
    )
  })
})

describe('a seeded random', () => {
  it('repeats from its seed and differs from others', () => {
    const draw = (seed: number) => new SeededRandom(seed).bytes(32).toString('hex')
    expect(draw(1)).to.equal(draw(1))
    expect(new Set(Array.from({ length: 100 }, (_, seed) => draw(seed))).size).to.equal(100)
  })

  it('is even', () => {
    const random = new SeededRandom(3)
    const counts = new Array<number>(10).fill(0)
    for (let draw = 0; draw < 10_000; draw++) counts[random.below(10)]!++
    for (const count of counts) expect(count).to.be.within(900, 1100)
  })
})

describe('an error of the system', () => {
  it('becomes one of ours, with its cause', () => {
    const cause = Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' })
    const error = systemError(cause, 'writing', 'home/left')
    expect(error).to.include({ code: 'NO_SPACE', device: 'home/left', cause })
    expect(error.message).to.equal('writing: ENOSPC: no space left')
    expect(systemError(error, 'again')).to.equal(error)
  })

  it('is IO when nobody knows better', () => {
    fc.assert(
      fc.property(fc.anything(), (cause) => {
        expect(codes).to.include(systemError(cause, 'doing').code)
      }),
    )
    expect(systemError('odd', 'doing')).to.be.instanceOf(StorageError)
    const odd = [{ code: 'toString' }, Object.create(null), { toString: null }]
    for (const cause of odd) expect(systemError(cause, 'doing').code).to.equal('IO')
  })
})

describe('a size that is none', () => {
  it('is told what would do', () => {
    for (const [text, meant] of [
      ['256MiB', '"256M"'],
      ['64Mi', '"64M"'],
      ['64MB', '"64M", or 64000000'],
      ['1g', '"1G"'],
      ['1,5G', '"1.5G"'],
      ['1_000', '"1000"'],
      ["1'048'576", '"1048576"'],
      ['1,048,576', '"1048576"'],
      ['64 GiB', '"64G"'],
    ] as const)
      expect(sizeMeant(text), text).to.equal(` (did you mean ${meant}?)`)
    for (const text of ['64G', '', 'G', '-1', '1e9']) expect(sizeMeant(text), text).to.equal('')
  })
})
