import { expect } from 'chai'
import { failFlush } from '../blows.ts'
import { Stage } from '../stage.ts'

/** A volume of which `right` misses the first `sectors`, and is away. */
async function behind(stage: Stage, sectors: number): Promise<void> {
  stage.killTarget('right')
  for (let at = 0; at < sectors; at += 64)
    expect(await stage.write(at, Math.min(64, sectors - at))).to.equal(null)
  await stage.until('right has left', () => stage.legs['right'] !== 'in-sync')
}

const slow = { resyncWindow: 1, resyncChunkBytes: 4096, resyncBytesPerSecond: 200_000 }

describe('scenarios: resync', () => {
  it('resync-after-primary-crash: only extents in the log are copied', async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const stage = await new Stage({ seed }).start()
      expect(await stage.write(0, 512)).to.equal(null)
      stage.begin((hand) => {
        for (let at = 0; at < 8; at++) hand.write(at * 3, 16)
      })
      await stage.pass(0.1 * seed)
      stage.killHead()
      stage.startHead()
      await stage.healthy()
      await stage.audit()
      const copied = stage.mirror
        .history()
        .filter(({ resync }) => resync !== undefined)
        .map(({ resync }) => resync!.bytes)
      for (const bytes of copied) expect(bytes).to.be.at.most(8 * 64 * 1024)
    }
  })

  it('resync-after-primary-crash: a write on one leg only is on both, or on none', async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const stage = await new Stage({ seed }).start()
      expect(await stage.write(0, 8)).to.equal(null)
      const missed = seed % 2 === 0 ? 'right' : 'left'
      stage.world.network.cut('head', missed)
      stage.begin((hand) => {
        hand.write(0, 8)
      })
      await stage.pass(10)
      stage.crashHead()
      stage.world.network.heal('head', missed)
      stage.startHead()
      await stage.healthy()
      await stage.audit()
    }
  })

  it('resync-after-primary-crash: nothing is written before the log says so', async () => {
    for (let seed = 1; seed <= 12; seed++) {
      const stage = await new Stage({ seed }).start()
      // The first write to an extent: left has what it is given first, and nothing that follows.
      stage.leg('left').medium.next.push({ effect: 1, total: 1000 }, { effect: 1000, total: 1000 })
      stage.leg('right').medium.hung = true
      stage.begin((hand) => {
        hand.write(0, 8)
      })
      await stage.pass(20)
      stage.killHead()
      stage.killTarget('left')
      stage.crashTarget('right')
      stage.leg('right').medium.unhang()
      stage.startTarget('left')
      stage.startTarget('right')
      stage.startHead()
      await stage.healthy()
      await stage.audit()
    }
  })

  it('resync-interrupt-variants: target, source link or head end in the middle', async () => {
    for (const variant of ['target', 'link', 'head', 'target power'] as const) {
      const stage = await new Stage({ hold: 100, settings: slow }).start()
      await behind(stage, 512)
      stage.startTarget('right')
      await stage.legIs('right', 'syncing')
      await stage.pass(200)
      expect(stage.legs['right'], variant).to.equal('syncing')
      if (variant === 'target') stage.killTarget('right')
      else if (variant === 'target power') stage.crashTarget('right')
      else if (variant === 'link') stage.partition('right')
      else stage.killHead()
      await stage.pass(1000)
      if (variant === 'link') stage.heal('right')
      else if (variant === 'head') stage.startHead()
      else stage.startTarget('right')
      await stage.healthy()
      await stage.audit()
    }
  })

  it('resync-multiple-interrupt: it goes on where it stopped, and comes to an end', async () => {
    const settings = { ...slow, resyncCheckpointBytes: 16 * 1024 }
    const stage = await new Stage({ hold: 50, settings }).start()
    await behind(stage, 1024)
    for (let turn = 0; turn < 4; turn++) {
      stage.startTarget('right')
      await stage.legIs('right', 'syncing')
      await stage.pass(400)
      stage.killTarget('right')
      await stage.pass(300)
    }
    stage.startTarget('right')
    await stage.healthy()
    await stage.audit()
  })

  it('resync-double-target: two legs catch up at once', async () => {
    const stage = await new Stage({ legs: ['local', 'remote', 'remote'], hold: 50 }).start()
    stage.killTarget('right')
    expect(await stage.write(0, 64)).to.equal(null)
    stage.killTarget('third')
    expect(await stage.write(200, 64)).to.equal(null)
    await stage.pass(500)
    stage.startTarget('right')
    stage.startTarget('third')
    await stage.healthy()
    await stage.audit()
  })

  it('resync-source-becomes-target: the source fails after the resync and returns', async () => {
    const stage = await new Stage({ hold: 50 }).start()
    await behind(stage, 128)
    stage.startTarget('right')
    await stage.healthy()
    stage.killTarget('left')
    expect(await stage.write(0, 64)).to.equal(null)
    stage.startTarget('left')
    await stage.healthy()
    await stage.audit()
  })

  it('a source that ends in the middle: what is lacking fails until it returns', async () => {
    const settings = { ...slow, suspendMs: 300 }
    const stage = await new Stage({ hold: 50, settings }).start()
    await behind(stage, 512)
    stage.startTarget('right')
    await stage.legIs('right', 'syncing')
    await stage.pass(100)
    stage.killTarget('left')
    await stage.pass(1000)
    // What right lacks cannot be read, whatever right holds there.
    expect(await stage.read(504, 8)).to.not.equal(null)
    stage.startTarget('left')
    await stage.healthy()
    await stage.audit()
  })

  it('switch-sync-source: the source ends and another leg takes over', async () => {
    const legs = ['remote', 'remote', 'remote'] as const
    const stage = await new Stage({ legs, hold: 50, settings: slow }).start()
    await behind(stage, 512)
    stage.startTarget('right')
    await stage.legIs('right', 'syncing')
    await stage.pass(100)
    stage.killTarget('left')
    await stage.legIs('right', 'in-sync')
    stage.startTarget('left')
    await stage.healthy()
    await stage.audit()
  })

  it('resync-missed-end: the head ends at any moment around the end of a resync', async () => {
    for (let step = 0; step < 24; step++) {
      const stage = await new Stage({ hold: 50, seed: step + 1 }).start()
      await behind(stage, 64)
      stage.startTarget('right')
      await stage.legIs('right', 'syncing')
      await stage.pass(step * 0.7)
      stage.crashHead()
      stage.startHead()
      await stage.healthy()
      await stage.audit()
    }
  })

  it('write-during-resync, resync-write-during-pause', async () => {
    const stage = await new Stage({ hold: 50, settings: slow }).start()
    await behind(stage, 512)
    stage.startTarget('right')
    await stage.legIs('right', 'syncing')
    for (let turn = 0; turn < 20; turn++) {
      expect(await stage.write(turn * 25, 20)).to.equal(null)
      if (turn === 10) stage.partition('right')
      if (turn === 15) stage.heal('right')
      await stage.pass(20)
    }
    await stage.healthy()
    await stage.audit()
  })

  it('a leg that is being filled is not read', async () => {
    const stage = await new Stage({ hold: 50, settings: slow }).start()
    await behind(stage, 512)
    stage.startTarget('right')
    await stage.legIs('right', 'syncing')
    const hand = stage.begin((client) => {
      for (let turn = 0; turn < 8; turn++) client.read(448, 64)
    })
    await stage.until('all is read', () => hand.inFlight === 0)
    expect(hand.errors).to.equal(0)
    expect(stage.legs['right']).to.equal('syncing')
  })

  it('resync-discard: zeroes and trims of an absent leg’s range are not forgotten', async () => {
    const stage = await new Stage({ hold: 50, settings: { intentIdleMs: 20 } }).start()
    expect(await stage.write(0, 512)).to.equal(null)
    expect(await stage.flush()).to.equal(null)
    // What was written since its last mark is copied anyway: only the zeroes are to be missed.
    await stage.pass(1000)
    stage.killTarget('right')
    expect(await stage.zero(0, 64)).to.equal(null)
    expect(await stage.trim(128, 128)).to.equal(null)
    await stage.pass(500)
    stage.startTarget('right')
    await stage.healthy()
    await stage.audit()
  })

  it('legs that lack different ranges: each is brought what it lacks', async () => {
    const stage = await new Stage({ legs: ['local', 'remote', 'remote'], hold: 50 }).start()
    stage.killTarget('right')
    expect(await stage.write(0, 32)).to.equal(null)
    await stage.pass(300)
    stage.killTarget('third')
    expect(await stage.write(300, 32)).to.equal(null)
    stage.startTarget('right')
    await stage.legIs('right', 'in-sync')
    stage.startTarget('third')
    await stage.healthy()
    await stage.audit()
  })

  it('stress-al: one hot extent, writes everywhere, the head crashes', async () => {
    for (let seed = 1; seed <= 4; seed++) {
      const stage = await new Stage({ seed, settings: { hotExtentsMax: 1 } }).start()
      for (let turn = 0; turn < 12; turn++)
        expect(await stage.write((turn * 331) % 900, 100)).to.equal(null)
      stage.begin((hand) => {
        for (let at = 0; at < 8; at++) hand.write(at * 120, 40)
      })
      await stage.pass(seed * 0.4)
      stage.crashHead()
      stage.startHead()
      await stage.healthy()
      await stage.audit()
    }
  })

  it('what is missed while its extent is copied is copied again', async () => {
    const settings = { ...slow, resyncCheckpointBytes: 1024 * 1024 }
    const stage = await new Stage({ hold: 50, settings }).start()
    await behind(stage, 128)
    stage.startTarget('right')
    await stage.legIs('right', 'syncing')
    // The first pieces of the extent are copied; what the source cannot take now, right has.
    await stage.pass(100)
    const defect = { from: 0, to: 4096, reads: false, writes: true }
    stage.leg('left').medium.defects.push(defect)
    expect(await stage.write(0, 8)).to.not.equal(null)
    expect(stage.legs['right']).to.equal('syncing')
    stage.leg('left').medium.defects.length = 0
    await stage.healthy()
    await stage.audit()
  })

  it('write-during-resync: what is written while its piece is copied stays', async () => {
    const settings = { resyncWindow: 8, resyncChunkBytes: 16 * 1024 }
    for (let seed = 1; seed <= 8; seed++) {
      const stage = await new Stage({ hold: 50, seed, settings }).start()
      await behind(stage, 1024)
      stage.leg('right').medium.latency = [1, 60]
      stage.startTarget('right')
      await stage.legIs('right', 'syncing')
      const hand = stage.begin(() => undefined)
      for (let turn = 0; turn < 60 && stage.legs['right'] === 'syncing'; turn++) {
        hand.write((turn * 67) % 1000, 16)
        await stage.pass(2)
      }
      await stage.healthy()
      await stage.until('all is written', () => hand.inFlight === 0)
      await stage.audit()
    }
  })

  it('a target loses its cache in the middle of an extent: all of it is copied again', async () => {
    const pieces = { resyncWindow: 1, resyncChunkBytes: 16 * 1024, resyncBytesPerSecond: 16 * 1024 }
    const settings = { ...pieces, intentIdleMs: 20 }
    // What a crash takes of a cache is chance.
    for (let seed = 1; seed <= 16; seed++) {
      const stage = await new Stage({ seed, forces: true, hold: 5000, settings }).start()
      expect(await stage.write(0, 128)).to.equal(null)
      stage.killTarget('right')
      expect(await stage.write(0, 128)).to.equal(null)
      await stage.pass(200)
      stage.startTarget('right')
      await stage.legIs('right', 'syncing')
      await stage.pass(2500)
      stage.crashTarget('right')
      stage.startTarget('right')
      await stage.healthy()
      await stage.audit()
    }
  })

  it('a flush of another client drops the beginning of an extent: it is copied again', async () => {
    const pieces = { resyncWindow: 1, resyncChunkBytes: 16 * 1024, resyncBytesPerSecond: 16 * 1024 }
    const settings = { ...pieces, intentIdleMs: 20 }
    const stage = await new Stage({ forces: true, settings }).start()
    await behind(stage, 128)
    stage.startTarget('right')
    await stage.legIs('right', 'syncing')
    await stage.pass(2500)
    // Its target does not restart, so the leg stays, and what was copied to it so far is gone.
    failFlush(stage.leg('right'))
    stage.leg('right').target!.flush()
    await stage.healthy()
    const left = stage.mirror.history().filter(({ text }) => text.startsWith('left as'))
    expect(left, 'it left once, before that').to.have.length(1)
    await stage.audit()
  })

  it('what no source can read is not copied, and the leg is not in sync', async () => {
    const settings = { resyncWindow: 1, resyncChunkBytes: 4096, resyncCheckpointBytes: 4096 }
    const stage = await new Stage({ hold: 50, settings }).start()
    await behind(stage, 512)
    const defect = { from: 0, to: 4096, reads: true, writes: false }
    stage.leg('left').medium.defects.push(defect)
    stage.startTarget('right')
    await stage.legIs('right', 'syncing')
    await stage.pass(2000)
    expect(stage.legs['right']).to.equal('syncing')
    stage.leg('left').medium.defects.length = 0
    await stage.healthy()
    await stage.audit()
  })

  it('a new leg is filled to its end, although the head ends in the middle', async () => {
    const settings = { ...slow, intentIdleMs: 100 }
    const stage = await new Stage({ hold: 50, settings }).start()
    expect(await stage.write(0, 512)).to.equal(null)
    expect(await stage.flush()).to.equal(null)
    // Nothing but the map may say later what the new disk lacks: the log is empty by then.
    await stage.pass(1000)
    await stage.replaceDisk('right')
    await stage.legIs('right', 'syncing')
    await stage.pass(200)
    stage.killHead()
    stage.startHead()
    await stage.healthy()
    await stage.audit()
  })

  it('a leg that is in sync again knows what others lack', async () => {
    const legs = ['remote', 'remote', 'remote'] as const
    const settings = { intentIdleMs: 100 }
    const stage = await new Stage({ legs, hold: 50, settings }).start()
    stage.killTarget('right')
    stage.killTarget('third')
    expect(await stage.write(0, 64)).to.equal(null)
    await stage.pass(1000)
    stage.startTarget('right')
    await stage.legIs('right', 'in-sync')
    await stage.pass(1000)
    stage.killHead()
    stage.killTarget('left')
    stage.startTarget('third')
    stage.startHead()
    await stage.legIs('third', 'in-sync')
    stage.startTarget('left')
    await stage.healthy()
    await stage.audit()
  })
})
