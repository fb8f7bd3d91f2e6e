import { expect } from 'chai'
import type { Log } from '../../src/base/log.ts'
import { MiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { Journal } from '../../src/target/journal.ts'
import { QuietLog } from '../../src/target/quiet.ts'
import { ManualClock } from '../support/clock.ts'
import { GateDriver } from '../nbd/gate.ts'

/** Keeps what was logged. */
class Lines implements Log {
  readonly lines: { fields: object; message: string }[] = []
  readonly debug = (fields: object, message: string): void => this.add(fields, message)
  readonly info = (fields: object, message: string): void => this.add(fields, message)
  readonly warn = (fields: object, message: string): void => this.add(fields, message)
  readonly error = (fields: object, message: string): void => this.add(fields, message)

  private add(fields: object, message: string): void {
    this.lines.push({ fields, message })
  }
}

describe('the log', () => {
  it('has some lines of what goes on and on, and says how many it left out', () => {
    const all = new Lines()
    const clock = new ManualClock()
    const log = new QuietLog(all, clock, 5, 1000)
    for (let line = 0; line < 100; line++) log.info({ line }, 'a client was dropped')
    expect(all.lines).to.have.length(5)
    clock.advance(1000)
    log.warn({ line: 100 }, 'another one')
    expect(all.lines.slice(5).map(({ fields }) => fields)).to.deep.equal([
      { line: 99, unsaid: 94 },
      { line: 100 },
    ])
    clock.advance(10_000)
    expect(all.lines).to.have.length(7)
  })

  it('is not filled by a device whose state changes all the time', async () => {
    const all = new Lines()
    const clock = new ManualClock()
    const gate = new GateDriver(MiB)
    const device = new Device('far', gate, clock)
    new Journal(all, clock).follow(device)
    await device.open()
    for (let change = 0; change < 1000; change++) {
      gate.goOffline()
      await gate.goOnline()
    }
    expect(all.lines.length).to.be.within(10, 30)
    gate.goOffline()
    await gate.goOnline()
    clock.advance(60_000)
    expect(all.lines.at(-1)!.message).to.equal('far is online')
    await device.close()
  })
})
