import { expect } from 'chai'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { attachAll, replace } from './manage.ts'
import { Stage } from './stage.ts'

describe('an operator of the simulation', () => {
  it('vouches for no leg by another that has lost what a third one has', async () => {
    const stage = await new Stage({ legs: ['remote', 'remote', 'remote'] }).start()
    const { world } = stage
    world.faults.start()
    const [left, third] = [stage.leg('left'), stage.leg('third')]
    await stage.result(stage.mirror.detachLeg('third'))
    const before = Buffer.from(left.medium.content)
    await stage.write(66, 3)
    // The head counts it as in sync until it has noticed.
    stage.killTarget('left')
    left.medium.rollBack(before)
    world.operator.act(third, 'trust')
    await stage.pass(10)
    stage.startTarget('left')
    await stage.legIs('left', 'in-sync')
    attachAll(world)
    await stage.healthy()
    await stage.audit()
  })

  it('discards what an owner left of the superblocks of a leg that was removed', async () => {
    const stage = await new Stage().start()
    const { world } = stage
    const right = stage.leg('right')
    const { medium } = right
    const before = Buffer.from(medium.content)
    world.operator.act(right, 'remove')
    await stage.until('its owner writes to it', () => world.head!.commands === 0)
    stage.killHead()
    medium.write(0, before)
    for (const slot of [0, 1]) medium.content[superblockOffset(medium.size, slot) + 40]! ^= 1
    stage.startHead()
    await stage.legIs('right', 'failed')
    attachAll(world)
    await stage.healthy()
    await stage.audit()
  })

  it('replaces no disk while the other one may be about to go', async () => {
    const stage = await new Stage().start()
    const { world } = stage
    const right = stage.leg('right')
    const { identity } = right.medium
    stage.partition('left')
    replace(world, right)
    stage.begin((client) => client.write(0, 8))
    await stage.pass(100)
    stage.heal('left')
    // What was sent meanwhile arrives only when it is sent again.
    replace(world, right)
    expect(stage.legs).to.deep.equal({ left: 'in-sync', right: 'in-sync' })
    expect(right.medium.identity).to.equal(identity)
    await stage.pass(1000)
    replace(world, right)
    expect(right.medium.identity).to.not.equal(identity)
    await stage.until('it is noticed', () => stage.legs['right'] !== 'in-sync')
    await stage.healthy()
    await stage.audit()
  })
})
