import { expect } from 'chai'
import { otherSide, Stage } from '../stage.ts'

const names = ['left', 'right', 'third'] as const
type Name = (typeof names)[number]

/** A head of three legs, each behind its own target: the third breaks the tie. */
async function started(): Promise<Stage> {
  const settings = { minInSync: 2, suspendMs: 10_000 }
  const legs = ['remote', 'remote', 'remote'] as const
  const stage = await new Stage({ legs, settings, hold: 50 }).start()
  expect(await stage.write(0, 64)).to.equal(null)
  return stage
}

/** Cuts a head off from every leg but some. */
function reaches(stage: Stage, head: string, ...legs: readonly Name[]): void {
  const { network } = stage.world
  for (const name of names)
    for (const [from, to] of [
      [head, name],
      [name, head],
    ] as const)
      if (legs.includes(name)) network.heal(from, to)
      else network.cut(from, to)
}

// LINBIT's has a node without a disk that only votes; here the third leg does, and has data too.
describe('scenarios: quorum-tiebreaker', () => {
  it('a head that loses one of three legs goes on with two', async () => {
    for (const lost of names) {
      const stage = await started()
      reaches(stage, 'head', ...names.filter((name) => name !== lost))
      expect(await stage.write(32, 64)).to.equal(null)
      expect(await stage.flush()).to.equal(null)
      expect(stage.legs[lost]).to.equal('missing')
      reaches(stage, 'head', ...names)
      await stage.healthy()
      await stage.audit()
    }
  })

  it('the third leg changes sides, and nobody gains by it', async () => {
    const stage = await started()
    const older = stage.world.head!
    const hand = stage.begin(() => undefined)
    reaches(stage, 'head', 'left', 'third')
    hand.write(32, 64)
    await stage.until('two legs have it', () => hand.inFlight === 0)
    expect(hand.lastError).to.equal(null)
    reaches(stage, 'head2', 'right')
    stage.takeOver()
    await stage.pass(1000)
    expect(stage.world.head!.device.usable, 'right alone is not enough').to.equal(false)
    reaches(stage, 'head', 'left')
    reaches(stage, 'head2', 'right', 'third')
    hand.write(0, 8)
    await stage.pass(3000)
    expect(stage.world.head!.device.usable, 'left could be newer').to.equal(false)
    expect(stage.world.head!.device.state.reason).to.include('left')
    expect(hand.inFlight, 'one leg is not enough').to.equal(1)
    reaches(stage, 'head', 'left', 'third')
    await stage.until('it is acknowledged', () => hand.inFlight === 0)
    expect([hand.lastError, older.device.usable]).to.deep.equal([null, true])
    reaches(stage, 'head2', ...names)
    await stage.healthy()
    hand.write(0, 8)
    await stage.until('it is answered', () => hand.inFlight === 0)
    expect([hand.lastError?.code, older.device.state.word]).to.deep.equal(['FENCED', 'failed'])
    await stage.audit()
  })

  it('a head that is cut off acknowledges nothing; who reaches two legs goes on', async () => {
    const stage = await started()
    const { world } = stage
    const older = world.head!
    const reader = stage.begin(() => undefined)
    reaches(stage, 'head', 'left')
    const waits = otherSide(stage, older)
    waits.write(0, 8)
    waits.write(400, 8)
    await stage.pass(1000)
    expect(waits.inFlight, 'both wait').to.equal(2)
    reader.read(100, 8)
    reaches(stage, 'head2', 'right', 'third')
    stage.takeOver()
    await stage.pass(1000)
    expect(world.head!.device.usable, 'nobody but an operator knows of left').to.equal(false)
    await stage.result(stage.mirror.startVolume({ force: true }))
    for (const at of [0, 4, 400, 600]) expect(await stage.write(at, 4)).to.equal(null)
    expect(await stage.flush()).to.equal(null)
    expect(await stage.read(0, 64)).to.equal(null)
    for (const head of ['head', 'head2']) reaches(stage, head, ...names)
    await stage.until('the older head is fenced', () => older.device.state.word === 'failed')
    expect(older.device.state.reason).to.include('newer head')
    expect([waits.inFlight, waits.errors]).to.deep.equal([0, 2])
    await stage.legIs('left', 'failed')
    expect(world.legStatus()['left']!.reason).to.match(/split brain/)
    await stage.result(stage.mirror.attachLeg('left', { discard: true }))
    await stage.healthy()
    await stage.audit()
  })

  it('a head that was cut off and is not replaced loses nothing', async () => {
    const stage = await started()
    reaches(stage, 'head', 'left')
    const hand = stage.begin((client) => {
      client.write(0, 8)
      client.flush()
    })
    await stage.pass(1000)
    expect(hand.inFlight).to.be.at.least(1)
    hand.read(0, 8)
    await stage.pass(1000)
    reaches(stage, 'head', 'left', 'third')
    await stage.until('all is acknowledged', () => hand.inFlight === 0)
    expect(hand.errors).to.equal(0)
    reaches(stage, 'head', ...names)
    await stage.healthy()
    await stage.audit()
  })

  it('a head that restarts with one leg of three reads, and waits to write', async () => {
    const stage = await started()
    reaches(stage, 'head', 'left', 'third')
    expect(await stage.write(32, 64)).to.equal(null)
    reaches(stage, 'head', 'left')
    await stage.legIs('third', 'missing')
    stage.killHead()
    stage.startHead()
    await stage.until('the volume is usable', () => stage.world.head!.device.usable)
    expect(await stage.read(0, 128)).to.equal(null)
    const hand = stage.begin((client) => {
      client.write(0, 8)
    })
    await stage.pass(2000)
    expect(hand.inFlight, 'it waits').to.equal(1)
    reaches(stage, 'head', 'left', 'right')
    await stage.until('it is acknowledged', () => hand.inFlight === 0)
    expect(hand.lastError).to.equal(null)
    reaches(stage, 'head', ...names)
    await stage.healthy()
    await stage.audit()
  })

  it('a flush is not acknowledged by fewer legs than a write', async () => {
    const stage = await started()
    reaches(stage, 'head', 'left', 'third')
    expect(await stage.write(32, 64)).to.equal(null)
    await stage.legIs('right', 'missing')
    stage.leg('third').medium.hung = true
    const hand = stage.begin((client) => {
      client.flush()
    })
    await stage.legIs('third', 'missing')
    await stage.pass(1000)
    expect(hand.inFlight, 'left alone has flushed').to.equal(1)
    stage.leg('third').medium.unhang()
    await stage.until('it is acknowledged', () => hand.inFlight === 0)
    expect(hand.lastError).to.equal(null)
    reaches(stage, 'head', ...names)
    await stage.healthy()
    await stage.audit()
  })

  it('a write that too few legs have is not acknowledged once the last one lost it', async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const stage = await new Stage({
        seed,
        hold: 1500,
        forces: true,
        settings: { minInSync: 2 },
      }).start()
      expect(await stage.write(0, 64)).to.equal(null)
      expect(await stage.flush()).to.equal(null)
      stage.partition('right')
      const hand = stage.begin((client) => client.write(0, 64))
      await stage.until('right has left', () => stage.legs['right'] !== 'in-sync')
      await stage.pass(50)
      // Within its hold, with nothing under way on it.
      stage.crashTarget('left')
      stage.startTarget('left')
      await stage.pass(1000)
      stage.heal('right')
      await stage.until('the write ends', () => hand.inFlight === 0)
      const wrote = hand.lastError?.code ?? 'done'
      await stage.healthy()
      hand.flush()
      await stage.until('the flush ends', () => hand.inFlight === 0)
      const flushed = hand.lastError?.code ?? 'done'
      // The number of the write that the first sector of a leg holds.
      const found = stage.leg('left').medium.content.readUInt32LE(0)
      const outcome = { wrote, flushed, found }
      expect(outcome, `seed ${seed}`).to.not.deep.equal({
        wrote: 'done',
        flushed: 'done',
        found: 1,
      })
    }
  })
})
