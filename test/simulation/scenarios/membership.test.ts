import { expect } from 'chai'
import type { StorageError } from '../../../src/base/errors.ts'
import { Stage } from '../stage.ts'

async function refusal(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'not refused',
    (error: unknown) => (error as StorageError).message,
  )
}

describe('scenarios: legs taken off and put back', () => {
  it('uuid-detach-resync: an image of its moment, that returns by the difference', async () => {
    const stage = await new Stage().start()
    expect(await stage.write(0, 200)).to.equal(null)
    await stage.result(stage.mirror.detachLeg('right', { as: 'monday' }))
    const image = Buffer.from(stage.leg('right').medium.content.subarray(0, 512 * 1024))
    expect(image.equals(stage.leg('left').medium.content.subarray(0, 512 * 1024))).to.equal(true)
    expect(stage.legs['right']).to.equal('detached')
    expect(await stage.write(0, 64)).to.equal(null)
    stage.crashTarget('right')
    stage.startTarget('right')
    await stage.pass(2000)
    const after = stage.leg('right').medium.content.subarray(0, 512 * 1024)
    expect(image.equals(after), 'the image was flushed, and nobody touches it').to.equal(true)
    expect(stage.legs['right']).to.equal('detached')
    await stage.result(stage.mirror.attachLeg('right'))
    await stage.healthy()
    await stage.audit()
    const resync = stage.mirror.history().findLast(({ resync }) => resync !== undefined)!.resync!
    expect(resync.kind).to.equal('partial')
    expect(resync.bytes).to.be.at.most(64 * 1024)
  })

  it('a detached leg stays detached over restarts of the head', async () => {
    const stage = await new Stage().start()
    await stage.result(stage.mirror.detachLeg('right'))
    expect(await stage.write(0, 64)).to.equal(null)
    stage.crashHead()
    stage.startHead()
    await stage.until('the volume is usable', () => stage.world.head!.device.usable)
    await stage.pass(3000)
    expect(stage.legs['right']).to.equal('detached')
    await stage.result(stage.mirror.attachLeg('right'))
    await stage.healthy()
    await stage.audit()
  })

  it('a detached leg that was changed is refused, until its changes are discarded', async () => {
    const stage = await new Stage().start()
    expect(await stage.write(0, 64)).to.equal(null)
    await stage.result(stage.mirror.detachLeg('right'))
    const { medium } = stage.leg('right')
    medium.write(4096, Buffer.alloc(4096, 7))
    medium.flush(medium.order)
    const text = await refusal(stage.result(stage.mirror.attachLeg('right')))
    expect(text).to.not.equal('not refused')
    expect(text).to.match(/\d/)
    await stage.result(stage.mirror.attachLeg('right', { discard: true }))
    await stage.healthy()
    await stage.audit()
  })

  it('the last leg in sync cannot be detached or removed', async () => {
    const stage = await new Stage().start()
    await stage.result(stage.mirror.detachLeg('right'))
    expect(await refusal(stage.result(stage.mirror.detachLeg('left')))).to.not.equal('not refused')
    expect(await refusal(stage.result(stage.mirror.removeLeg('left')))).to.not.equal('not refused')
    await stage.result(stage.mirror.attachLeg('right'))
    await stage.healthy()
    await stage.audit()
  })

  it('a leg that is called removed counts for nothing after a crash', async () => {
    const stage = await new Stage().start()
    expect(await stage.write(0, 200)).to.equal(null)
    stage.world.state.failing = true
    const told = await refusal(stage.result(stage.mirror.removeLeg('right')))
    // Its owner may write to it from here on, if it is removed: where nothing else is copied.
    const { medium } = stage.leg('right')
    const scribble = (): void => {
      medium.write(256 * 1024, Buffer.alloc(64 * 1024, 7))
      medium.flush(medium.order)
    }
    if (told === 'not refused') scribble()
    stage.crashHead()
    stage.world.state.failing = false
    stage.startHead()
    await stage.healthy()
    await stage.audit()
    await stage.result(stage.mirror.removeLeg('right'))
    scribble()
    stage.crashHead()
    stage.startHead()
    // It is still configured, and is filled.
    await stage.healthy()
    await stage.audit()
  })

  it('a detached leg that is trusted when the head crashes is returned unasked', async () => {
    const stage = await new Stage().start()
    expect(await stage.write(0, 200)).to.equal(null)
    await stage.result(stage.mirror.detachLeg('right'))
    // Not yet durable, and clients write to it already.
    const trusted = stage.mirror.trustLeg('right')
    await stage.until('it takes part', () => stage.legs['right'] === 'syncing')
    stage.world.state.failing = true
    expect(await refusal(stage.result(trusted))).to.not.equal('not refused')
    stage.crashHead()
    stage.world.state.failing = false
    stage.startHead()
    await stage.until('the volume is usable', () => stage.world.head!.device.usable)
    expect(stage.legs['right']).to.equal('detached')
    await stage.result(stage.mirror.attachLeg('right'))
    await stage.healthy()
    await stage.audit()
  })

  it('invalidate: a leg is copied whole again', async () => {
    const stage = await new Stage().start()
    expect(await stage.write(0, 64)).to.equal(null)
    await stage.result(stage.mirror.invalidateLeg('right'))
    await stage.healthy()
    const resync = stage.mirror.history().findLast(({ resync }) => resync !== undefined)!.resync!
    expect(resync.kind).to.equal('full')
    await stage.audit()
  })

  it('detach and attach while clients write, the head killed in between', async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const stage = await new Stage({ seed }).start()
      stage.begin((hand) => {
        for (let at = 0; at < 8; at++) hand.write(at * 5, 9)
      })
      const detached = stage.mirror.detachLeg('right').catch(() => undefined)
      void detached
      await stage.pass(seed * 0.8)
      stage.killHead()
      stage.startHead()
      await stage.until('the volume is usable', () => stage.world.head!.device.usable)
      await stage.until('right is settled', () =>
        ['detached', 'in-sync'].includes(stage.legs['right']!),
      )
      if (stage.legs['right'] === 'detached') await stage.result(stage.mirror.attachLeg('right'))
      await stage.healthy()
      await stage.audit()
    }
  })
})

describe('scenarios: verify', () => {
  it('verify: equal legs are equal, also while clients write', async () => {
    const stage = await new Stage().start()
    expect(await stage.write(0, 512)).to.equal(null)
    const verified = stage.mirror.verify()
    stage.begin((hand) => {
      for (let at = 0; at < 10; at++) hand.write(at * 50, 40)
    })
    const result = await stage.result(verified)
    expect(result.bytesDifferent).to.equal(0)
    expect(result.bytesChecked).to.be.at.least(512 * 1024)
    await stage.audit()
  })

  it('with two legs differences are told, and repaired from the leg that is named', async () => {
    const stage = await new Stage().start()
    expect(await stage.write(0, 64)).to.equal(null)
    stage.leg('right').medium.write(8192, Buffer.alloc(512, 9))
    const found = await stage.result(stage.mirror.verify())
    expect(found.bytesDifferent).to.be.at.least(1)
    expect(found.bytesRepaired).to.equal(0)
    await stage.result(stage.mirror.verify({ repairFrom: 'left' }))
    await stage.healthy()
    await stage.audit()
  })

  it('with three legs the majority repairs', async () => {
    for (const name of ['left', 'right', 'third']) {
      const stage = await new Stage({ legs: ['local', 'local', 'remote'] }).start()
      expect(await stage.write(0, 64)).to.equal(null)
      stage.leg(name).medium.write(8192, Buffer.alloc(512, 9))
      const result = await stage.result(stage.mirror.verify())
      expect(result.bytesRepaired).to.be.at.least(1)
      await stage.healthy()
      await stage.audit()
    }
  })

  it('legs that lose their caches while they are compared are no majority', async () => {
    const stage = await new Stage({ legs: ['remote', 'remote', 'remote'] }).start()
    expect(await stage.write(0, 64)).to.equal(null)
    expect(await stage.flush()).to.equal(null)
    expect(await stage.write(0, 64)).to.equal(null)
    const lost = ['right', 'third']
    for (const name of lost) stage.leg(name).medium.hung = true
    const verified = stage.mirror.verify()
    await stage.pass(20)
    for (const name of lost) stage.crashTarget(name)
    for (const name of lost) stage.startTarget(name)
    for (const name of lost) stage.leg(name).medium.unhang()
    const { bytesDifferent, complete } = await stage.result(verified)
    expect({ bytesDifferent, complete }).to.deep.equal({ bytesDifferent: 0, complete: false })
    await stage.healthy()
    await stage.audit()
  })

  it('verify-target-becomes-inconsistent: a leg ends in the middle', async () => {
    const stage = await new Stage({ hold: 50 }).start()
    expect(await stage.write(0, 512)).to.equal(null)
    const verified = refusal(stage.mirror.verify({ bytesPerSecond: 500_000 }))
    await stage.pass(300)
    stage.killTarget('right')
    await stage.pass(1000)
    stage.startTarget('right')
    await stage.result(verified)
    await stage.healthy()
    await stage.audit()
  })
})
