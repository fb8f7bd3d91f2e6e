import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import type { Log } from '../../src/base/log.ts'
import { MiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { Journal } from '../../src/daemon/journal.ts'
import { FoldingLog } from '../../src/daemon/folding.ts'
import { QuietLog } from '../../src/daemon/quiet.ts'
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
    const log = new QuietLog(all, clock, { linesMax: 5, timeMs: 1000 })
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

  it('does not warn of what an operator wanted', () => {
    const levels: string[] = []
    const add = (level: string) => (): void => void levels.push(level)
    const log = { debug: add('debug'), info: add('info'), warn: add('warn'), error: add('error') }
    let told: (device: Device) => void = () => undefined
    const said = { reason: '', differences: [], legs: { a: { state: 'in-sync' }, b: {} } }
    const mirror = {
      path: 'm',
      driver: { type: 'mirror', describe: () => said },
      state: { word: 'online', reason: '' },
      watch: (watcher: typeof told) => (told = watcher),
    }
    new Journal(log, new ManualClock()).follow(mirror as unknown as Device)
    for (const [word, state] of [
      ['degraded', 'syncing'],
      ['degraded', 'detached'],
      ['degraded', 'missing'],
      ['opening', 'missing'],
      ['offline', 'missing'],
    ] as const) {
      mirror.state = { word, reason: `b is ${state}` }
      said.legs.b = { state }
      told(mirror as unknown as Device)
    }
    expect(levels).to.deep.equal(['info', 'info', 'warn', 'info', 'warn'])
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

  it('has a line or two a minute of a device that comes and goes for hours', async () => {
    const all = new Lines()
    const clock = new ManualClock()
    const gate = new GateDriver(MiB)
    const device = new Device('far', gate, clock)
    new Journal(all, clock).follow(device)
    await device.open()
    for (let second = 0; second < 3600; second++) {
      gate.goOffline()
      await gate.goOnline()
      clock.advance(1000)
    }
    expect(all.lines.length).to.be.within(60, 160)
    clock.advance(300_000)
    expect(all.lines.at(-1)!.message).to.equal('far is online')
    const before = all.lines.length
    gate.goOffline()
    await gate.goOnline()
    expect(all.lines).to.have.length(before + 2)
    await device.close()
  })

  it('counts what is tried again and again, more and more seldom', () => {
    const all = new Lines()
    const clock = new ManualClock()
    const log = new FoldingLog(all, clock)
    for (let second = 0; second < 3600; second++) {
      log.error({ volume: 'home', err: new Error(`attempt ${second}`) }, 'cannot be saved')
      clock.advance(1000)
    }
    expect(all.lines.length).to.be.within(5, 12)
    const told = all.lines.map(({ fields }) => (fields as { repeated?: number }).repeated ?? 1)
    expect(told.reduce((sum, each) => sum + each, log.untold)).to.equal(3600)
    clock.advance(600_000)
    const last = all.lines.at(-1)!.fields as { repeated: number; err: Error }
    expect(last.err.message).to.equal('attempt 3599')
    expect(log.untold).to.equal(0)
  })

  it('tells at once what is new: another volume, another reason, or after a rest', () => {
    const all = new Lines()
    const clock = new ManualClock()
    const log = new FoldingLog(all, clock)
    const failing = (volume: string, why: string): void =>
      log.error({ volume, err: new Error(why) }, 'cannot be saved')
    failing('vol1', 'disk full')
    failing('vol2', 'disk full')
    failing('vol1', 'no permission')
    expect(all.lines).to.have.length(3)
    failing('vol1', 'disk full')
    expect(all.lines).to.have.length(3)
    clock.advance(3_600_000)
    expect(all.lines.at(-1)!.message).to.equal('cannot be saved')
    failing('vol1', 'disk full')
    expect(all.lines).to.have.length(5)
  })

  it('remembers so many kinds of lines, and loses none of those it forgets', () => {
    const all = new Lines()
    const log = new FoldingLog(all, new ManualClock())
    for (let round = 0; round < 2; round++)
      for (let kind = 0; kind < 1500; kind++) log.warn({ device: `d${kind}` }, 'is gone')
    const times = all.lines.map(({ fields }) => (fields as { repeated?: number }).repeated ?? 1)
    expect(times.reduce((sum, each) => sum + each, log.untold)).to.equal(3000)
  })

  it('has few lines of a device that fails at ever other places', async () => {
    const all = new Lines()
    const clock = new ManualClock()
    const gate = new GateDriver(MiB)
    const device = new Device('far', gate, clock)
    new Journal(all, clock).follow(device)
    await device.open()
    const before = all.lines.length
    for (let at = 0; at < 600; at++) {
      const message = `read of 4096 bytes at ${4096 * at}: EIO`
      device.onError!(device, new StorageError('IO', message, 'far'))
      clock.advance(1000)
    }
    expect(all.lines.length - before).to.be.within(2, 10)
    await device.close()
  })
})
