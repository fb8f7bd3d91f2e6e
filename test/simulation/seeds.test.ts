import { expect } from 'chai'
import { runSeed } from './run.ts'

/** Seeds that once found something: see docs/simulation.md. */
const found = [
  2, 10, 12, 20, 36, 89, 108, 128, 166, 349, 363, 571, 1117, 30194, 50010, 50139, 100002, 200264,
  600497, 50000127, 50000562, 50001673, 50002765, 50003840, 50005291, 50007902, 50009075, 50009134,
  50009858, 50020059, 70000152, 80000891, 91002703, 400001668, 400002251, 400006359, 725774258,
]

describe('the simulation', function () {
  for (const seed of found)
    it(`finds nothing any more with seed ${seed}`, async () => {
      const { problem, history } = await runSeed(seed)
      expect(problem, history.join('\n')).to.equal(null)
    })

  it('repeats a seed to the last event', async () => {
    const [once, again] = [await runSeed(4), await runSeed(4)]
    expect(once.steps).to.be.greaterThan(100)
    expect(again.fingerprint).to.equal(once.fingerprint)
    expect(again.steps).to.equal(once.steps)
  })
})
