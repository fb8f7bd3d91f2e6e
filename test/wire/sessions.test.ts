import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { Operation } from '../../src/device/request.ts'
import type { Export } from '../../src/export/export.ts'
import type { Hello } from '../../src/wire/hello.ts'
import { Claims } from '../../src/export/claims.ts'
import type { SessionConnection } from '../../src/wire/session-connection.ts'
import { Sessions, type Session } from '../../src/wire/session.ts'
import { GateDriver } from './gate.ts'
import { MemoryStore } from '../support/memory-store.ts'

const client = '11'.repeat(16)
const hello = (changes: Partial<Hello>): Hello => ({
  purpose: 1,
  index: 0,
  features: 0,
  client,
  epoch: 1,
  claim: 0,
  depth: 1,
  name: 'disk',
  ...changes,
})

describe('the sessions of a server whose device is stuck', () => {
  let sessions: Sessions
  let target: Export
  let first: Session
  let told: string[]

  const connection = (): SessionConnection => ({
    identity: '',
    owner: '',
    index: 0,
    peer: 'test',
    kick: () => undefined,
    tellFacts: () => undefined,
  })

  /** A client that says hello and is told, if ever; returns how it leaves. */
  function come(name: string, changes: Partial<Hello>): () => void {
    const own = connection()
    const session = sessions.attach(hello(changes), target, own, () => told.push(name))
    return () => {
      if (session !== null) sessions.detach(session, own)
    }
  }

  beforeEach(async () => {
    told = []
    const device = new Device('disk', new GateDriver(MiB), systemClock)
    await device.open()
    target = { name: 'disk', device, readOnly: false, mayClaim: true, description: '' }
    sessions = new Sessions(systemClock, 64 * KiB, new Claims(new MemoryStore()))
    const own = connection()
    first = sessions.attach(hello({}), target, own, () => undefined)!
    first.begin(1, 1, Operation.write)
    sessions.detach(first, own)
  })

  it('forget who came back and went before it answered', () => {
    for (let epoch = 2; epoch < 100; epoch++) come(`epoch ${epoch}`, { epoch })()
    for (let turn = 0; turn < 100; turn++) come(`turn ${turn}`, { epoch: 100 })()
    come('last', { epoch: 101 })
    expect(told).to.deep.equal([])
    first.finish(1, 0, Operation.write)
    expect(told).to.deep.equal(['last'])
  })

  it('let so many take over and no more', async () => {
    const other = '22'.repeat(16)
    for (let claim = 1; claim < 200; claim++) come(`claim ${claim}`, { client: other, claim })()
    await new Promise((resolve) => setImmediate(resolve))
    // Those are told at once, that they have to try again.
    expect(told).to.have.length(199 - 64)
    first.finish(1, 0, Operation.write)
    await new Promise((resolve) => setImmediate(resolve))
    expect(told).to.have.length(199)
    come('last', { client: other, claim: 200 })
    await new Promise((resolve) => setImmediate(resolve))
    expect(told.at(-1)).to.equal('last')
  })
})
