import { expect } from 'chai'
import { KiB } from '../../../src/base/size.ts'
import { Operation } from '../../../src/device/request.ts'
import { Stage, type StageOptions } from '../stage.ts'

const growthBytes = 640 * KiB
const sizeBefore = 512 * KiB

async function started(options: StageOptions = {}): Promise<Stage> {
  return new Stage({ grows: true, hold: 50, ...options }).start()
}

function size(stage: Stage): number {
  return stage.world.head!.device.facts!.size
}

function grow(stage: Stage, ...names: string[]): void {
  for (const name of names) stage.leg(name).medium.grow(growthBytes)
}

// `audit` reads all of the volume, new space included: it must be zero, and the same on all legs.
describe('scenarios: volumes that grow', () => {
  it('attach-while-connected-resize: the last leg has grown while clients write', async () => {
    const stage = await started()
    const hand = stage.begin((client) => {
      for (let at = 0; at < 10; at++) client.write(at * 90, 60)
    })
    grow(stage, 'left')
    await stage.pass(1000)
    expect(size(stage)).to.equal(sizeBefore)
    grow(stage, 'right')
    await stage.until('it has grown', () => size(stage) === sizeBefore + growthBytes)
    await stage.until('all is written', () => hand.inFlight === 0)
    expect(hand.errors).to.equal(0)
    expect(await stage.write(sizeBefore / 512 - 8, 100)).to.equal(null)
    await stage.healthy()
    await stage.audit()
  })

  it('resize-after-new-current: a leg that was away returns grown, and was missed', async () => {
    const stage = await started()
    stage.killTarget('right')
    grow(stage, 'left', 'right')
    expect(await stage.write(0, 64)).to.equal(null)
    await stage.until('right has left', () => stage.legs['right'] === 'missing')
    await stage.pass(1000)
    expect(size(stage)).to.equal(sizeBefore)
    stage.startTarget('right')
    await stage.healthy()
    expect(size(stage)).to.equal(sizeBefore + growthBytes)
    expect(await stage.write(2000, 100)).to.equal(null)
    await stage.audit()
  })

  it('a leg that returns as it was holds the volume back until it grows as well', async () => {
    const stage = await started()
    stage.killTarget('right')
    grow(stage, 'left')
    expect(await stage.write(0, 64)).to.equal(null)
    stage.startTarget('right')
    await stage.legIs('right', 'in-sync')
    expect(size(stage)).to.equal(sizeBefore)
    grow(stage, 'right')
    await stage.healthy()
    expect(size(stage)).to.equal(sizeBefore + growthBytes)
    await stage.audit()
  })

  it('legs that grow while the head is away are found where they ended before', async () => {
    for (const names of [['left'], ['left', 'right']]) {
      const stage = await started()
      expect(await stage.write(0, 64)).to.equal(null)
      stage.killHead()
      grow(stage, ...names)
      stage.startHead()
      await stage.until('the volume is usable', () => stage.world.head!.device.usable)
      if (names.length === 1) grow(stage, 'right')
      await stage.healthy()
      expect(size(stage)).to.equal(sizeBefore + growthBytes)
      await stage.audit()
    }
  })

  it('nobody sees the new size before it is durable', async () => {
    const stage = await started()
    expect(await stage.write(0, 64)).to.equal(null)
    stage.world.state.failing = true
    grow(stage, 'left', 'right')
    await stage.pass(1000)
    // Whatever a leg announces now has the volume announced anew.
    grow(stage, 'left')
    await stage.pass(100)
    expect(size(stage)).to.equal(sizeBefore)
    stage.crashHead()
    stage.world.state.failing = false
    stage.startHead()
    await stage.healthy()
    expect(size(stage)).to.equal(sizeBefore + growthBytes)
    await stage.audit()
  })

  it('legs grow once more while the new size cannot be saved, and are not put back', async () => {
    for (let step = 0; step < 12; step++) {
      const stage = await started({ seed: step + 1 })
      const { state } = stage.world
      expect(await stage.write(900, 100)).to.equal(null)
      grow(stage, 'left', 'right')
      await stage.pass(step)
      state.hung = true
      grow(stage, 'left', 'right')
      // Longer than `suspendMs`: the run has ended then if it had anything to save.
      await stage.pass(6000)
      state.unhang(true)
      await stage.healthy()
      expect(size(stage), `step ${step}`).to.equal(sizeBefore + 2 * growthBytes)
      await stage.audit()
    }
  })

  it('anything ends in the middle: it is the old volume or the new one', async () => {
    for (const victim of ['head', 'head power', 'right', 'right power'] as const)
      for (let step = 0; step < 12; step++) {
        const stage = await started({ seed: step + 1, forces: step % 2 === 0 })
        expect(await stage.write(900, 100)).to.equal(null)
        grow(stage, 'left', 'right')
        await stage.pass(step * 1.3)
        if (victim === 'head') stage.killHead()
        else if (victim === 'head power') stage.crashHead()
        else if (victim === 'right') stage.killTarget('right')
        else stage.crashTarget('right')
        await stage.pass(500)
        if (victim.startsWith('head')) stage.startHead()
        else stage.startTarget('right')
        await stage.healthy()
        expect(size(stage)).to.equal(sizeBefore + growthBytes)
        await stage.audit()
      }
  })

  it('a leg leaves while metadata move: no write is let in before the log is full', async () => {
    // Without a log that is emptied for it: nothing else says where legs differ.
    const stage = await started({ settings: { intentLog: false } })
    const [left, right] = [stage.leg('left').medium, stage.leg('right').medium]
    expect(await stage.write(0, 16)).to.equal(null)
    right.ambush = (operation, offset) => {
      if (operation !== Operation.write || offset < sizeBefore + growthBytes) return
      right.ambush = null
      stage.partition('right')
      stage.begin((client) => client.write(0, 16))
    }
    left.ambush = (operation, offset) => {
      if (operation === Operation.write && offset === 0) stage.killHead()
    }
    grow(stage, 'left', 'right')
    await stage.until('the write is on its way', () => stage.world.head === null)
    left.ambush = null
    stage.heal('right')
    stage.startHead()
    await stage.healthy()
    await stage.audit()
  })
})

describe('scenarios: legs of other sizes', () => {
  it('connect-differing-sizes: a larger leg is a leg, its end is not used', async () => {
    const stage = new Stage()
    stage.leg('right').medium.grow(growthBytes)
    await stage.start()
    expect(size(stage)).to.equal(sizeBefore)
    expect(await stage.write(0, 64)).to.equal(null)
    await stage.audit()
  })

  it('connect-differing-sizes: a leg replaced by a smaller one is refused', async () => {
    const stage = await new Stage({ hold: 50 }).start()
    stage.killTarget('right')
    expect(await stage.write(0, 64)).to.equal(null)
    const { medium } = stage.leg('right')
    medium.replace(700 * KiB)
    const before = Buffer.from(medium.content)
    stage.startTarget('right')
    await stage.legIs('right', 'failed')
    expect(stage.world.legStatus()['right']!.reason).to.match(/room for \d+ bytes/)
    expect(before.equals(medium.content), 'nothing is written to it').to.equal(true)
    expect(await stage.read(0, 64)).to.equal(null)
  })
})
