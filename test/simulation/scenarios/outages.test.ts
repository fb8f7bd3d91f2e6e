import { expect } from 'chai'
import { Flag } from '../../../src/device/request.ts'
import { sectorBytes } from '../medium.ts'
import { Stage } from '../stage.ts'

// Names are those of LINBIT's drbd9-tests where one of theirs is meant.
describe('scenarios: legs that fail', () => {
  it('io-errors: a leg that cannot write leaves, and returns by itself', async () => {
    const stage = await new Stage().start()
    stage.leg('right').medium.defects.push({ from: 0, to: 1e9, reads: false, writes: true })
    expect(await stage.write(0, 8)).to.equal(null)
    expect(stage.legs['right']).to.not.equal('in-sync')
    stage.leg('right').medium.defects.length = 0
    await stage.healthy()
    await stage.audit()
  })

  it('io-errors: a read error is answered from the other leg and rewritten', async () => {
    for (const name of ['left', 'right']) {
      const readLast = name === 'left' ? 'right' : 'left'
      const stage = await new Stage({ readLast }).start()
      expect(await stage.write(0, 8)).to.equal(null)
      const { medium } = stage.leg(name)
      medium.defects.push({ from: 0, to: 4 * sectorBytes, reads: true, writes: false })
      const before = medium.changes
      for (let again = 0; again < 4; again++) expect(await stage.read(0, 8)).to.equal(null)
      expect(medium.changes, 'what could not be read was written').to.be.greaterThan(before)
      medium.defects.length = 0
      await stage.healthy()
      await stage.audit()
    }
  })

  it('disk-timeout: a leg that never answers leaves after a bounded time', async () => {
    const stage = await new Stage({ settings: { legTimeoutMs: 300 } }).start()
    stage.leg('right').medium.hung = true
    const began = stage.world.clock.time
    expect(await stage.write(0, 8)).to.equal(null)
    expect(stage.world.clock.time - began).to.be.within(250, 3000)
    expect(stage.legs['right']).to.not.equal('in-sync')
    stage.leg('right').medium.unhang()
    await stage.healthy()
    await stage.audit()
  })

  it('a leg whose flush fails leaves with everything it had not flushed', async () => {
    const stage = await new Stage().start()
    expect(await stage.write(0, 64)).to.equal(null)
    stage.leg('right').medium.flushFails = true
    expect(await stage.flush()).to.equal(null)
    expect(stage.legs['right']).to.not.equal('in-sync')
    stage.crashTarget('right')
    stage.leg('right').medium.flushFails = false
    stage.startTarget('right')
    await stage.healthy()
    await stage.audit()
  })

  it('a leg that drops what it could not flush gets it back without a restart', async () => {
    for (let seed = 1; seed <= 3; seed++) {
      const stage = await new Stage({ seed }).start()
      const { medium } = stage.leg('right')
      expect(await stage.write(0, 64)).to.equal(null)
      medium.dropsUnwritten = true
      medium.flushFails = true
      medium.flushFailsOnce = true
      expect(await stage.flush()).to.equal(null)
      await stage.healthy()
      await stage.audit()
    }
  })

  for (const failing of [['left'], ['left', 'right']])
    it(`a write is dropped by ${failing.join(' and ')} before its answer arrives`, async () => {
      const stage = await new Stage().start()
      // The intent log has the extent from now on.
      expect(await stage.write(0, 64)).to.equal(null)
      expect(await stage.flush()).to.equal(null)
      const { network, legs, checker } = stage.world
      const before = legs.map(({ medium }) => medium.changes)
      for (const { name, medium } of legs) {
        network.link(name, 'head').latency = 20
        medium.next.push({ effect: 0, total: 0 }, { effect: 1, total: 1 })
        medium.dropsUnwritten = failing.includes(name)
        medium.flushFails = failing.includes(name)
        medium.flushFailsOnce = true
      }
      const client = stage.begin((hand) => hand.write(0, 64))
      const taken = (): boolean => legs.every(({ medium }, at) => medium.changes > before[at]!)
      await stage.until('both disks have it', taken)
      client.flush()
      await stage.until('the write is answered', () => client.inFlight === 1)
      expect(legs.some(({ medium }) => medium.flushFails)).to.equal(false)
      // What one leg kept has to be there. If both dropped it, the head has yet to hear of that.
      expect(checker.acknowledged(0) !== null, 'it is there').to.equal(failing.length === 1)
      stage.crashHead()
      stage.startHead()
      await stage.healthy()
      await stage.audit()
    })

  for (const what of ['flush', 'forced write'])
    it(`a start from a leg that lost power, as the other one failed a ${what}`, async () => {
      const forces = what === 'forced write'
      for (let seed = 1; seed <= 3; seed++) {
        const stage = await new Stage({ seed, forces }).start()
        expect(await stage.write(0, 64)).to.equal(null)
        stage.crashHead()
        stage.crashTarget('left')
        stage.startTarget('left')
        // It loses nothing by that. Only its target cannot know, and says that it lost its cache.
        const { medium } = stage.leg('right')
        medium.dropsUnwritten = forces
        medium.flushFails = true
        medium.flushFailsOnce = true
        stage.startHead()
        await stage.until(`a ${what} of right fails`, () => !medium.flushFails)
        // Nothing durable says that this start had right for its source.
        stage.crashHead()
        stage.startHead()
        stage.crashHead()
        stage.startHead()
        await stage.healthy()
        await stage.audit()
      }
    })

  it('a remote that is reached again within its hold never leaves', async () => {
    const stage = await new Stage({ hold: 5000 }).start()
    stage.partition('right')
    const client = stage.begin((hand) => hand.write(0, 8))
    await stage.pass(1000)
    expect(client.inFlight, 'the write waits').to.equal(1)
    stage.heal('right')
    await stage.until('the write is acknowledged', () => client.inFlight === 0)
    expect(client.lastError).to.equal(null)
    expect(stage.legs['right']).to.equal('in-sync')
    await stage.audit()
  })

  it('a remote whose target is back within its hold is waited for and looked at', async () => {
    const stage = await new Stage({ hold: 5000 }).start()
    stage.killTarget('right')
    const client = stage.begin((hand) => hand.write(0, 8))
    await stage.pass(1000)
    expect(client.inFlight, 'the write waits').to.equal(1)
    stage.startTarget('right')
    await stage.until('the write is acknowledged', () => client.inFlight === 0)
    expect(client.lastError).to.equal(null)
    await stage.healthy()
    await stage.audit()
  })

  it('a remote that stays away leaves after its hold, and copies only what it missed', async () => {
    const stage = await new Stage({ hold: 200 }).start()
    stage.killTarget('right')
    expect(await stage.write(0, 8)).to.equal(null)
    await stage.pass(1000)
    stage.startTarget('right')
    await stage.healthy()
    const resync = stage.mirror.history().findLast(({ resync }) => resync !== undefined)!.resync!
    expect(resync.kind).to.equal('partial')
    expect(resync.bytes).to.be.within(1, 2 * 64 * 1024)
    await stage.audit()
  })

  it('a target that lost its cache catches up with what it had not flushed', async () => {
    for (let seed = 1; seed <= 5; seed++) {
      const stage = await new Stage({ seed }).start()
      expect(await stage.write(0, 128)).to.equal(null)
      expect(await stage.flush()).to.equal(null)
      expect(await stage.write(256, 64)).to.equal(null)
      stage.crashTarget('right')
      stage.startTarget('right')
      await stage.pass(2000)
      await stage.healthy()
      await stage.audit()
    }
  })

  it('a target loses its cache after its writes left the log: they were flushed', async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const stage = await new Stage({ seed, forces: true, settings: { intentIdleMs: 20 } }).start()
      expect(await stage.write(0, 128)).to.equal(null)
      await stage.pass(200)
      stage.crashTarget('right')
      stage.startTarget('right')
      await stage.pass(2000)
      await stage.healthy()
      await stage.audit()
    }
  })

  it('a target loses its cache after a resync: what was copied was flushed', async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const stage = await new Stage({ seed, forces: true, hold: 50 }).start()
      stage.killTarget('right')
      expect(await stage.write(0, 128)).to.equal(null)
      await stage.legIs('right', 'missing')
      stage.startTarget('right')
      await stage.healthy()
      stage.crashTarget('right')
      stage.startTarget('right')
      await stage.pass(2000)
      await stage.healthy()
      await stage.audit()
    }
  })

  it('all power is lost after a flush, and after a forced write', async () => {
    for (const forces of [false, true])
      for (let seed = 1; seed <= 8; seed++) {
        const stage = await new Stage({ seed, forces, shape: 'remote' }).start()
        expect(await stage.write(0, 8)).to.equal(null)
        expect(await stage.flush()).to.equal(null)
        expect(await stage.write(16, 8, Flag.fua)).to.equal(null)
        expect(await stage.write(1024, 8, Flag.fua)).to.equal(null)
        for (const name of ['left', 'right']) {
          stage.crashTarget(name)
          stage.startTarget(name)
        }
        await stage.pass(2000)
        await stage.audit()
      }
  })

  it('acknowledged writes that are lost are told with the next flush', async () => {
    for (const shape of ['remote', 'mirror'] as const)
      for (let seed = 1; seed <= 8; seed++) {
        const legs = shape === 'remote' ? (['remote'] as const) : (['remote', 'remote'] as const)
        const stage = await new Stage({ seed, shape, legs, hold: 5000 }).start()
        expect(await stage.write(0, 64)).to.equal(null)
        for (const { name } of stage.world.legs) stage.crashTarget(name)
        for (const { name } of stage.world.legs) stage.startTarget(name)
        await stage.pass(3000)
        // The checker knows what was lost; that a flush says so is its rule.
        await stage.flush()
        expect(await stage.flush()).to.equal(null)
        await stage.healthy()
        await stage.audit()
      }
  })

  it('a target that loses its cache while it is away lacks what it had not flushed', async () => {
    for (let seed = 1; seed <= 5; seed++) {
      const stage = await new Stage({ seed, hold: 50 }).start()
      expect(await stage.write(0, 128)).to.equal(null)
      stage.partition('right')
      await stage.legIs('right', 'missing')
      stage.crashTarget('right')
      stage.startTarget('right')
      stage.heal('right')
      await stage.healthy()
      await stage.audit()
    }
  })

  it('a disk that is replaced within the hold is another leg, filled when asked', async () => {
    const stage = await new Stage({ hold: 5000 }).start()
    expect(await stage.write(0, 128)).to.equal(null)
    await stage.replaceDisk('right')
    await stage.healthy()
    await stage.audit()
  })

  it('a disk that is exchanged behind a target that runs on is another leg', async () => {
    const stage = await new Stage({ hold: 5000 }).start()
    expect(await stage.write(0, 128)).to.equal(null)
    await stage.exchangeDisk('right')
    await stage.healthy()
    await stage.audit()
  })

  it('suspend-io: all legs gone at once; requests wait, and lose nothing', async () => {
    const stage = await new Stage({ hold: 100, settings: { suspendMs: 60_000 } }).start()
    expect(await stage.write(0, 8)).to.equal(null)
    stage.killTarget('left')
    stage.killTarget('right')
    const client = stage.begin((hand) => {
      hand.write(4, 8)
      hand.read(0, 4)
    })
    await stage.pass(5000)
    expect(client.inFlight, 'both wait').to.equal(2)
    stage.startTarget('right')
    stage.startTarget('left')
    await stage.until('both complete', () => client.inFlight === 0)
    expect(client.errors).to.equal(0)
    await stage.healthy()
    await stage.audit()
  })

  it('suspend-io: what was under way is carried out before what waited already', async () => {
    const settings = { minInSync: 2, suspendMs: 60_000 }
    const stage = await new Stage({ hold: 50, settings }).start()
    expect(await stage.write(0, 8)).to.equal(null)
    stage.killTarget('right')
    const hand = stage.begin((client) => {
      client.write(0, 8)
    })
    await stage.until('right has left', () => stage.legs['right'] === 'missing')
    await stage.pass(20)
    // The write is on left and waits for a second leg: it can be read.
    hand.read(0, 8)
    await stage.until('it was read', () => hand.inFlight === 1)
    hand.write(0, 8)
    await stage.pass(10)
    stage.killTarget('left')
    await stage.pass(1000)
    stage.startTarget('left')
    stage.startTarget('right')
    await stage.until('both are acknowledged', () => hand.inFlight === 0)
    expect(hand.errors).to.equal(0)
    await stage.healthy()
    await stage.audit()
  })

  it('suspend-io: what waits too long fails, and the volume returns all the same', async () => {
    const stage = await new Stage({ hold: 100, settings: { suspendMs: 2000 } }).start()
    stage.killTarget('left')
    stage.killTarget('right')
    const began = stage.world.clock.time
    expect(await stage.write(0, 8)).to.not.equal(null)
    expect(stage.world.clock.time - began).to.be.within(1500, 10_000)
    stage.startTarget('left')
    stage.startTarget('right')
    await stage.healthy()
    await stage.audit()
  })

  it('a leg that is slow for ever is bounded, then leaves', async () => {
    const stage = await new Stage({ settings: { legTimeoutMs: 500 } }).start()
    stage.leg('right').medium.latency = [3000, 4000]
    expect(await stage.write(0, 8)).to.equal(null)
    expect(stage.legs['right']).to.not.equal('in-sync')
    stage.leg('right').medium.latency = [0.02, 0.5]
    await stage.healthy()
    await stage.audit()
  })

  it('nothing is acknowledged before the leaving of a leg is durable', async () => {
    const stage = await new Stage().start()
    // The extent is in the intent log already: nothing but the write itself finds the leg full.
    expect(await stage.write(0, 8)).to.equal(null)
    stage.world.state.failing = true
    stage.leg('right').medium.full = true
    const client = stage.begin((hand) => hand.write(0, 8))
    await stage.pass(1000)
    expect(client.inFlight, 'the write waits').to.equal(1)
    stage.world.state.failing = false
    await stage.until('it completes', () => client.inFlight === 0)
    expect(client.lastError).to.equal(null)
    stage.leg('right').medium.full = false
    await stage.healthy()
    await stage.audit()
  })

  it('nothing is written while a leg that cannot take the log has not left durably', async () => {
    const stage = await new Stage({ hold: 50 }).start()
    const { medium } = stage.leg('right')
    medium.defects.push({ from: 512 * 1024, to: 1e9, reads: false, writes: true })
    stage.world.state.failing = true
    stage.begin((hand) => {
      hand.write(0, 8)
    })
    await stage.pass(100)
    stage.killHead()
    stage.killTarget('left')
    medium.defects.length = 0
    stage.world.state.failing = false
    stage.startHead()
    await stage.until('the volume is usable', () => stage.world.head!.device.usable)
    stage.startTarget('left')
    await stage.healthy()
    await stage.audit()
  })

  it('a flush that failed while nothing could be saved is known to the next process', async () => {
    for (const hangs of [false, true])
      for (const [failing, other] of [
        ['left', 'right'],
        ['right', 'left'],
      ] as const) {
        const stage = await new Stage({ legs: ['local', 'local'] }).start()
        const { state } = stage.world
        const { medium } = stage.leg(failing)
        expect(await stage.write(0, 8)).to.equal(null)
        Object.assign(medium, { dropsUnwritten: true, flushFails: true, flushFailsOnce: true })
        Object.assign(state, hangs ? { hung: true } : { failing: true })
        stage.begin((hand) => hand.flush())
        await stage.until('the flush has failed', () => !medium.flushFails)
        await stage.pass(1000)
        stage.killHead()
        if (hangs) state.unhang(true)
        state.failing = false
        stage.startHead()
        await stage.until('the volume is usable', () => stage.world.head!.device.usable)
        expect(stage.legs[other], `${other} has everything`).to.equal('in-sync')
        expect(await stage.read(0, 8)).to.equal(null)
        expect(await stage.flush(), 'nothing was lost').to.equal(null)
        await stage.healthy()
        await stage.audit()
      }
  })

  it('writes that overlap are in the same order on all legs', async () => {
    const stage = await new Stage().start()
    const hand = stage.begin(() => undefined)
    for (let turn = 0; turn < 20; turn++) {
      for (let at = 0; at < 4; at++) hand.write(at, 8)
      await stage.until('all are acknowledged', () => hand.inFlight === 0)
      await stage.audit()
    }
  })

  it('a full leg leaves, the other goes on', async () => {
    const stage = await new Stage().start()
    stage.leg('left').medium.full = true
    expect(await stage.write(0, 8)).to.equal(null)
    expect(stage.legs['left']).to.not.equal('in-sync')
    stage.leg('left').medium.full = false
    await stage.healthy()
    await stage.audit()
  })
})
