import { expect } from 'chai'
import { Stage } from '../stage.ts'

const late = { effect: 3000, total: 3000 }

/** Breaks every connection between the head and `right`, so that both sides know. */
function reset(stage: Stage): void {
  const { network } = stage.world
  for (const end of network.between('head', 'right')) {
    end.reset()
    end.other.reset()
  }
}

// What was given up, and happens all the same.
describe('scenarios: nothing old lands on something new', () => {
  it('a session waits for what the one before left in a slow disk', async () => {
    const settings = { resyncWindow: 1, resyncCheckpointBytes: 64 * 1024 }
    const stage = await new Stage({ legs: ['local', 'remote'], hold: 50, settings }).start()
    for (let extent = 0; extent < 8; extent++)
      expect(await stage.write(extent * 128, 8)).to.equal(null)
    const { medium } = stage.leg('right')
    medium.next.push(late)
    const first = stage.begin((hand) => {
      hand.write(0, 8)
    })
    await stage.until('the disk has it', () => medium.next.length === 0)
    // Of the slots that this session leaves, one is free at the target: the next session uses it.
    stage.world.network.cut('right', 'head')
    stage.begin((hand) => {
      hand.write(128, 8)
    })
    await stage.pass(5)
    reset(stage)
    stage.world.network.heal('right', 'head')
    await stage.until('right has left', () => stage.legs['right'] !== 'in-sync')
    await stage.until('both are acknowledged', () => first.inFlight === 0)
    for (let extent = 0; extent < 8; extent++)
      expect(await stage.write(extent * 128, 8)).to.equal(null)
    await stage.pass(4000)
    await stage.healthy()
    await stage.audit()
  })

  it('what an older connection still brings is not carried out', async () => {
    const stage = await new Stage({ hold: 5000 }).start()
    const { network } = stage.world
    network.resetOnClose = 0
    expect(await stage.write(0, 8)).to.equal(null)
    for (const end of network.between('head', 'right')) end.stall(3000)
    expect(await stage.write(0, 8)).to.equal(null)
    expect(stage.legs['right'], 'by a new connection').to.equal('in-sync')
    for (let turn = 0; turn < 4; turn++) expect(await stage.write(0, 8)).to.equal(null)
    await stage.pass(4000)
    await stage.healthy()
    await stage.audit()
  })

  it('a write that was carried out and not answered is not carried out again', async () => {
    const stage = await new Stage({ shape: 'remote', legs: ['remote'], hold: 20_000 }).start()
    const { medium } = stage.leg('left')
    medium.next.push({ effect: 1, total: 3000 })
    const hand = stage.begin((client) => {
      client.write(0, 8)
    })
    await stage.pass(20)
    hand.read(0, 8)
    await stage.until('it was read', () => hand.inFlight === 1)
    hand.write(0, 8)
    await stage.until('the next one is acknowledged', () => hand.inFlight === 1)
    for (const end of stage.world.network.between('head', 'left')) {
      end.reset()
      end.other.reset()
    }
    await stage.until('the first one is acknowledged', () => hand.inFlight === 0)
    expect(hand.errors).to.equal(0)
    await stage.audit()
  })

  it('an unanswered write is not sent again to a target that has restarted', async () => {
    const stage = await new Stage({ shape: 'remote', legs: ['remote'], hold: 20_000 }).start()
    stage.leg('left').medium.next.push({ effect: 1, total: 3000 })
    const hand = stage.begin((client) => {
      client.write(0, 8)
    })
    await stage.pass(20)
    hand.read(0, 8)
    await stage.until('it was read', () => hand.inFlight === 1)
    hand.write(0, 8)
    await stage.until('the next one is acknowledged', () => hand.inFlight === 1)
    hand.flush()
    await stage.until('and flushed', () => hand.inFlight === 1)
    stage.crashTarget('left')
    stage.startTarget('left')
    await stage.until('the first one ends', () => hand.inFlight === 0)
    expect(hand.lastError?.code).to.equal('STALE')
    await stage.audit()
  })
})

describe('scenarios: two heads on the same legs', () => {
  it('what the older head sent before it was replaced and arrives after is refused', async () => {
    const stage = await new Stage({ hold: 5000 }).start()
    const { network } = stage.world
    network.resetOnClose = 0
    expect(await stage.write(0, 8)).to.equal(null)
    for (const end of network.between('head', 'right')) end.stall(3000)
    stage.begin((hand) => {
      hand.write(0, 8)
    })
    await stage.pass(5)
    stage.takeOver()
    await stage.healthy()
    expect(await stage.write(0, 8)).to.equal(null)
    await stage.pass(5000)
    await stage.healthy()
    await stage.audit()
  })

  it('the older head finds out, and changes nothing any more', async () => {
    const stage = await new Stage({ hold: 500 }).start()
    expect(await stage.write(0, 8)).to.equal(null)
    const older = stage.world.head!
    const hand = stage.begin(() => undefined)
    stage.takeOver()
    await stage.healthy()
    expect(await stage.write(0, 8)).to.equal(null)
    const generation = stage.mirror.describe()['generation']
    hand.write(0, 8)
    await stage.until('it is answered', () => hand.inFlight === 0)
    expect(hand.lastError?.code).to.equal('FENCED')
    expect(older.device.state.word).to.equal('failed')
    expect(older.device.state.reason).to.include('newer head')
    await stage.pass(5000)
    expect(stage.volume).to.equal('online')
    expect(stage.mirror.describe()['generation']).to.equal(generation)
    await stage.audit()
  })

  it('the older head finds out without a request, and an operator brings it back', async () => {
    for (const hold of [500, 0])
      for (const names of [['left'], ['left', 'right']]) {
        const stage = await new Stage({ hold }).start()
        expect(await stage.write(0, 8)).to.equal(null)
        const older = stage.world.head!
        stage.takeOver()
        await stage.healthy()
        const newer = stage.world.head!
        const { network } = stage.world
        for (const end of names.flatMap((name) => network.between('head', name))) {
          end.reset()
          end.other.reset()
        }
        await stage.pass(10_000)
        const what = `${names.join()} away, held for ${hold} ms`
        expect(older.device.state, what).to.include({
          word: 'failed',
          reason: 'a newer head has taken over',
        })
        const said = older.mirrors[0]!.history().map(({ text }) => text)
        const left = said.filter((text) => text.startsWith('left'))
        expect(hold === 0 || left.length === 0, `${what}: nothing is changed`).to.equal(true)
        // It may have to wait until it reaches the legs, and goes on by itself then.
        await stage.result(older.mirrors[0]!.startVolume({ force: true })).catch(() => undefined)
        await stage.until(`${what}: it serves`, () => older.device.state.word === 'online')
        await stage.until(`${what}: the newer one stops`, () => !newer.device.usable)
        expect(newer.device.state, what).to.include({ word: 'failed', code: 'FENCED' })
      }
  })

  it('a leg that the older head loses while it is replaced is not taken for whole', async () => {
    for (let step = 0; step < 50; step++) {
      const stage = await new Stage({ hold: 500, seed: step + 1 }).start()
      expect(await stage.write(0, 8)).to.equal(null)
      const hand = stage.begin(() => undefined)
      stage.takeOver()
      await stage.pass(1 + step * 0.1)
      const defect = { from: 0, to: 512 * 1024, reads: false, writes: true }
      stage.leg('left').medium.defects.push(defect)
      hand.write(0, 8)
      await stage.until('it is answered', () => hand.inFlight === 0)
      stage.leg('left').medium.defects.length = 0
      await stage.healthy()
      await stage.audit()
    }
  })

  it('concurrent-promote: of heads that start at once, one serves', async () => {
    for (let seed = 1; seed <= 24; seed++) {
      const stage = await new Stage({ seed }).start()
      const { world } = stage
      stage.killHead()
      stage.startHead()
      const one = world.head!
      await stage.pass(seed * 0.15)
      stage.takeOver()
      const other = world.head!
      await stage.pass(3000)
      const hands = [one, other].filter((head) => head.device.usable)
      expect(hands.length, `seed ${seed}`).to.be.at.least(1)
      for (const head of hands) {
        const hand = world.addClient(`hand${head.number}`, head)
        hand.blind = true
        for (let at = 0; at < 4; at++) hand.write(at * 4, 8)
      }
      await stage.pass(3000)
      const left = [one, other].filter((head) => head.device.usable)
      expect(left.length, `heads that serve, with seed ${seed}`).to.equal(1)
      world.endRivals()
      if (left[0] === one) {
        world.killHead('killed')
        world.startHead()
      }
      await stage.healthy()
      await stage.audit()
    }
  })
})
