import { expect } from 'chai'
import { Turns } from '../../src/net/tls/turns.ts'
import { ManualClock } from '../support/clock.ts'

describe('turns of handshakes', () => {
  /** Has a peer ask for so many turns. Returns how many have begun, and their ways out. */
  function ask(turns: Turns, origin: string | undefined, count: number) {
    const asked = { begun: 0, leave: [] as (() => void)[] }
    for (let n = 0; n < count; n++) asked.leave.push(turns.enter(origin, () => asked.begun++))
    return asked
  }

  it('are given at once to a peer that was quiet, then as many in a second as it may', () => {
    const clock = new ManualClock()
    const turns = new Turns(clock, 10)
    const stranger = ask(turns, 'a', 100)
    expect(stranger.begun).to.equal(20)
    clock.advance(1000)
    expect(stranger.begun).to.be.within(29, 30)
    // Others do not wait for it, and users of unix sockets never do.
    expect(ask(turns, 'b', 5).begun).to.equal(5)
    expect(ask(turns, undefined, 1000).begun).to.equal(1000)
  })

  it('are not given to more than 64 at a time, nor to those that have left', () => {
    const clock = new ManualClock()
    const turns = new Turns(clock, 100)
    const stranger = ask(turns, 'a', 100)
    expect(stranger.begun).to.equal(64)
    clock.advance(10_000)
    expect(stranger.begun).to.equal(64)
    for (const leave of stranger.leave.slice(64, 99)) leave()
    for (const leave of stranger.leave.slice(0, 40)) {
      leave()
      leave()
    }
    clock.advance(1000)
    expect(stranger.begun).to.equal(65)
  })

  it('leave nothing behind', () => {
    const clock = new ManualClock()
    const turns = new Turns(clock, 10)
    for (let n = 0; n < 100; n++) for (const leave of ask(turns, `a${n}`, 3).leave) leave()
    clock.advance(5000)
    expect(clock.pending).to.equal(0)
  })
})
