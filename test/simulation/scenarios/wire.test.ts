import { expect } from 'chai'
import { Stage } from '../stage.ts'

/** Bytes after which a connection breaks: around hellos, headers, payloads and replies. */
const points = [0, 1, 15, 16, 17, 40, 71, 72, 76, 77, 100, 111, 112, 113, 130, 150, 176, 177, 200]
const later = [300, 500, 1000, 2000, 4000, 5000, 8000]

// The points are those of qemu's nbd-fault-injector: before and after hello, request, data, reply.
describe('scenarios: a connection that breaks at any byte', () => {
  for (const direction of ['head>right', 'right>head'] as const)
    it(`${direction}: while starting`, async () => {
      for (const bytes of points) {
        const stage = new Stage({ seed: bytes + 1 })
        stage.world.network.budgets.set(direction, bytes)
        await stage.start()
        expect(await stage.write(0, 16)).to.equal(null)
        expect(await stage.flush()).to.equal(null)
        await stage.audit()
      }
    })

  for (const direction of ['head>right', 'right>head'] as const)
    it(`${direction}: while reading and writing`, async () => {
      for (const bytes of [...points, ...later]) {
        const stage = await new Stage({ hold: 5000, seed: bytes + 1 }).start()
        stage.world.network.budgets.set(direction, bytes)
        const client = stage.begin((hand) => {
          for (let at = 0; at < 6; at++) hand.write(at * 7, 9)
          for (let at = 0; at < 3; at++) hand.read(at * 9, 9)
          hand.flush()
        })
        await stage.until('all complete', () => client.inFlight === 0)
        expect(client.errors, 'within the hold nobody sees anything').to.equal(0)
        await stage.healthy()
        await stage.audit()
      }
    })

  it('connect-abort: the target ends while the head says hello', async () => {
    for (let step = 0; step < 12; step++) {
      const stage = await new Stage({ hold: 100, seed: step + 1 }).start()
      stage.killTarget('right')
      expect(await stage.write(0, 8)).to.equal(null)
      stage.startTarget('right')
      await stage.pass(step * 25)
      stage.killTarget('right')
      await stage.pass(100)
      stage.startTarget('right')
      await stage.healthy()
      await stage.audit()
    }
  })

  it('half-open: each side in turn thinks that the connection lives', async () => {
    for (const side of ['head', 'right'] as const)
      for (let seed = 1; seed <= 4; seed++) {
        const stage = await new Stage({ seed }).start()
        const other = side === 'head' ? 'right' : 'head'
        for (const end of stage.world.network.between(side, other)) end.reset()
        expect(await stage.write(0, 16)).to.equal(null)
        await stage.healthy()
        await stage.audit()
      }
  })

  it('half-open: a connection swallows everything, and nobody is told', async () => {
    for (const [from, to] of [
      ['head', 'right'],
      ['right', 'head'],
    ] as const) {
      const stage = await new Stage({ hold: 5000 }).start()
      for (const end of stage.world.network.between(from, to)) end.stall(1e9)
      expect(await stage.write(0, 16)).to.equal(null)
      expect(stage.legs['right'], `${from} to ${to}`).to.equal('in-sync')
      await stage.audit()
    }
  })

  it('a ghost: writes of a connection that was given up arrive after the next one', async () => {
    for (let seed = 1; seed <= 10; seed++) {
      const stage = await new Stage({ seed, hold: 5000 }).start()
      stage.world.network.resetOnClose = 0
      stage.begin((hand) => {
        for (let at = 0; at < 8; at++) hand.write(0, 8)
      })
      stage.partition('right')
      await stage.pass(1500)
      const client = stage.begin((hand) => hand.write(0, 8))
      stage.heal('right')
      await stage.until('all complete', () => client.inFlight === 0)
      expect(await stage.write(0, 8)).to.equal(null)
      await stage.pass(1000)
      await stage.healthy()
      await stage.audit()
    }
  })
})
