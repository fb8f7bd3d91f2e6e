import { expect } from 'chai'
import { Stage } from '../stage.ts'

/** Ten mirrors of two remotes each, side by side: DST's own acceptance tree. */
async function tenMirrors(seed = 1): Promise<Stage> {
  const legs = Array.from({ length: 20 }, () => 'remote' as const)
  return new Stage({ shape: 'tree', legs, hold: 50, seed, extents: 1 }).start()
}

/** Sectors of one mirror. */
const part = 128

describe('scenarios: ten mirrors under a linear', () => {
  it('one leg of each ends, and returns; requests go across all of them', async () => {
    const stage = await tenMirrors()
    expect(stage.world.checker.size).to.equal(10 * part)
    expect(await stage.write(0, 10 * part)).to.equal(null)
    const odd = stage.world.legs.filter((_, at) => at % 2 === 1).map(({ name }) => name)
    for (const name of odd) stage.killTarget(name)
    expect(await stage.write(part / 2, 9 * part)).to.equal(null)
    expect(await stage.trim(part - 8, 16)).to.equal(null)
    expect(await stage.flush()).to.equal(null)
    await stage.pass(1000)
    for (const name of odd) stage.startTarget(name)
    await stage.healthy()
    await stage.audit()
  })

  it('a mirror without legs fails its own part, and no other', async () => {
    const stage = await tenMirrors()
    expect(await stage.write(0, 10 * part)).to.equal(null)
    for (const name of ['third', 'fourth']) stage.killTarget(name)
    await stage.pass(10_000)
    expect(await stage.write(0, part)).to.equal(null)
    expect(await stage.write(2 * part, 8 * part)).to.equal(null)
    expect(await stage.read(part, 8)).to.not.equal(null)
    expect(await stage.write(part - 8, 16), 'half of it has no leg').to.not.equal(null)
    for (const name of ['third', 'fourth']) stage.startTarget(name)
    await stage.healthy()
    await stage.audit()
  })

  it('power loss of everything in the middle of writes across all of them', async () => {
    for (let seed = 1; seed <= 4; seed++) {
      const stage = await tenMirrors(seed)
      expect(await stage.write(0, 10 * part)).to.equal(null)
      expect(await stage.flush()).to.equal(null)
      stage.begin((hand) => {
        for (let at = 0; at < 6; at++) hand.write(at * part + 60, 2 * part)
      })
      await stage.pass(0.5 * seed)
      stage.crashHead()
      for (const { name } of stage.world.legs) stage.crashTarget(name)
      for (const { name } of stage.world.legs.toReversed()) stage.startTarget(name)
      stage.startHead()
      await stage.healthy()
      await stage.audit()
    }
  })
})
