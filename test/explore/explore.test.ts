import { expect } from 'chai'
import { defaults } from './config.ts'
import { defects, withDefect } from './defects.ts'
import { explore } from './engine.ts'
import { Hashes } from './hashes.ts'
import { Pack } from './pack.ts'
import { replay, scriptOf } from './script.ts'
import { World } from './world.ts'

const bounds = { statesMax: 200_000, secondsMax: 60 }

describe('states that were seen', () => {
  it('are known again, and no other is taken for one of them', () => {
    const seen = new Hashes()
    const pack = new Pack()
    const count = 100_000
    const addAll = (): number => {
      let added = 0
      for (let at = 0; at < count; at++) {
        pack.beginWriting()
        for (const byte of [at & 255, (at >> 8) & 255, at >> 16]) pack.byte(byte)
        if (seen.add(pack, 0)) added++
      }
      return added
    }
    expect(addAll()).to.equal(count)
    expect(addAll()).to.equal(0)
  })
})

describe('every order of what can happen to a mirror', () => {
  it('breaks no invariant when everything loses power once', function () {
    const kinds = new Set(['blackout'] as const)
    const world = new World({ ...defaults, writes: 1, width: 1, kinds })
    const { violation, complete, states } = explore(world, bounds)
    expect(violation).to.equal(null)
    expect(complete).to.equal(true)
    // The same for ever: the search is a function of the rules.
    expect(states).to.equal(1774)
  })

  it('lets no write go before the page of its own extent is written', function () {
    // The page of one extent is written while another is added to the log.
    const once = { writes: 2, flushes: 0, cleanings: 0, extents: 2 }
    const world = new World({ ...defaults, ...once, kinds: new Set(['crash']) })
    const { violation } = explore(world, { ...bounds, statesMax: 30_000 })
    expect(violation).to.equal(null)
  })

  for (const defect of defects.filter(({ quick }) => quick))
    it(`finds that ${defect.breaks.replace(/^\d: /, '')}`, function () {
      const world = new World({ ...defaults, ...defect.configuration })
      const { violation } = withDefect(defect, () => explore(world, bounds))
      expect(violation).not.to.equal(null)
      // What is printed of it is a script, which leads to the same again.
      const script = scriptOf(violation!.trace)
      expect(withDefect(defect, () => replay(world, script))).to.equal(violation!.what)
      expect(replay(world, script)).not.to.equal(violation!.what)
    })

  for (const defect of defects.filter(({ script }) => script !== undefined))
    it(`has found that ${defect.breaks.replace(/^\d: /, '')}`, () => {
      const world = new World({ ...defaults, ...defect.configuration })
      const wrong = withDefect(defect, () => replay(world, defect.script!))
      expect(wrong).to.include('was acknowledged')
      expect(replay(world, defect.script!)).not.to.equal(wrong)
    })
})
