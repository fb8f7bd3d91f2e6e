import { expect } from 'chai'
import { mirrorDefaults } from '../../../src/mirror/settings.ts'
import { patienceOf } from '../../../src/config/patience.ts'
import { Stage, type StageOptions } from '../stage.ts'

const { legTimeoutMs, legRetryMs, legRetryMsMax, suspendMs } = mirrorDefaults

/** Legs with the times that an operator gets who writes none down. */
function stage(options: StageOptions = {}): Promise<Stage> {
  const { hold, pingInterval, pingTimeout } = patienceOf({}, 'below-mirror')
  return new Stage({
    settings: { legTimeoutMs, legRetryMs, legRetryMsMax, suspendMs },
    remote: { hold, pingInterval, pingTimeout, connectTimeout: 10_000 },
    ...options,
  }).start()
}

/** Milliseconds that a write takes which begins now. */
async function writeTime(stage: Stage): Promise<number> {
  const began = stage.world.clock.time
  expect(await stage.write(0, 8)).to.equal(null)
  return stage.world.clock.time - began
}

/** What a leg can die of, and what undoes it. */
const silences: Record<string, (stage: Stage) => () => void> = {
  'its network': (stage) => {
    stage.partition('right')
    return () => stage.heal('right')
  },
  'its machine': (stage) => {
    stage.crashTarget('right')
    return () => stage.startTarget('right')
  },
  'its disk': (stage) => {
    stage.leg('right').medium.hung = true
    return () => stage.leg('right').medium.unhang()
  },
}

describe('by default', () => {
  it('a volume goes on within 2 s when a leg is reset, and copies what it missed', async () => {
    const cluster = await stage()
    cluster.killTarget('right')
    expect(await writeTime(cluster)).to.be.lessThan(2000)
    expect(cluster.legs['right']).to.equal('missing')
    cluster.startTarget('right')
    await cluster.healthy()
    const history = cluster.mirror.history()
    const copied = history.findLast(({ resync }) => resync !== undefined)
    expect(copied!.resync!.kind).to.equal('partial')
    await cluster.audit()
  })

  for (const [what, befall] of Object.entries(silences))
    it(`a volume goes on within 10 s when ${what} takes a leg away without a word`, async () => {
      for (const legs of [
        ['remote', 'remote'],
        ['local', 'remote'],
      ] as const) {
        const cluster = await stage({ legs })
        const undo = befall(cluster)
        expect(await writeTime(cluster)).to.be.lessThan(10_000)
        undo()
        await cluster.healthy()
        await cluster.audit()
      }
    })

  it('says at once that requests wait, and for how long', async () => {
    const cluster = await stage()
    cluster.leg('right').medium.hung = true
    const client = cluster.begin((hand) => hand.write(0, 8))
    await cluster.pass(3000)
    expect(client.inFlight).to.equal(1)
    const { volume, waiting, waitingSeconds, waitingFor } = cluster.mirror.describe()
    expect({ volume, waiting, waitingFor }).to.deep.equal({
      volume: 'degraded',
      waiting: 1,
      waitingFor: 'right is slow',
    })
    expect(waitingSeconds).to.be.within(1.5, 3)
    await cluster.until('it went on', () => client.inFlight === 0)
    expect(cluster.mirror.describe()).to.include({ waiting: 0, waitingSeconds: 0, waitingFor: '' })
  })

  it('the last leg has its time, and requests wait for it', async () => {
    const cluster = await stage()
    cluster.killTarget('right')
    expect(await cluster.write(0, 8)).to.equal(null)
    cluster.leg('left').medium.hung = true
    const client = cluster.begin((hand) => hand.write(0, 8))
    await cluster.pass(20_000)
    expect(cluster.mirror.describe()).to.include({ volume: 'degraded', waitingFor: 'left is slow' })
    cluster.leg('left').medium.unhang()
    await cluster.until('it was written', () => client.inFlight === 0)
    cluster.killTarget('left')
    const held = cluster.begin((hand) => hand.write(8, 8))
    await cluster.pass(20_000)
    expect(cluster.mirror.describe()).to.include({ volume: 'suspended', waiting: 1 })
    expect(cluster.mirror.describe()['waitingSeconds']).to.be.within(17, 20)
    cluster.startTarget('left')
    await cluster.until('it was written', () => held.inFlight === 0)
    expect(held.lastError).to.equal(null)
  })

  it('a leg that is slow, but answers, stays', async () => {
    const cluster = await stage()
    cluster.leg('right').medium.flushFails = false
    const { medium } = cluster.leg('right')
    medium.hung = true
    const flush = cluster.begin((hand) => hand.flush())
    await cluster.pass(20_000)
    medium.unhang()
    await cluster.until('the flush is done', () => flush.inFlight === 0)
    expect(cluster.legs['right']).to.equal('in-sync')
    await cluster.audit()
  })
})
