import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { MiB } from '../../src/base/size.ts'
import { ExportTable } from '../../src/daemon/exports.ts'
import { Device } from '../../src/device/device.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { parseRange, Rules, type Rule } from '../../src/export/rights.ts'
import { local, proven, remoteAt, type Identity } from '../../src/net/identity.ts'
import { SeededRandom } from '../support/seeded.ts'

const fingerprint = 'ab'.repeat(32)
const certificate = { names: ['dst:head/h1', 'h1.example'], commonName: 'h1', fingerprint }
const alice = proven(remoteAt('10.0.0.7'), { psk: 'alice' })
const head = proven(remoteAt('192.0.2.1'), certificate)

/** The rights of a rule that allows reading, for this identity. */
function reads(rule: Omit<Rule, 'may'>, identity: Identity): boolean {
  return new Rules([{ ...rule, may: ['read'] }]).of(identity).includes('read')
}

describe('a rule of an export', () => {
  it('is for the identity that it names, and for no other', () => {
    expect(reads({ psk: 'alice' }, alice)).to.equal(true)
    for (const other of [local, head, remoteAt('10.0.0.7'), proven(local, { psk: 'Alice' })])
      expect(reads({ psk: 'alice' }, other)).to.equal(false)
  })

  it('is for a certificate that has all of what it says', () => {
    for (const wanted of [
      { uri: 'dst:head/h1' },
      { dns: 'H1.example' },
      { commonName: 'h1' },
      { fingerprint: fingerprint.toUpperCase() },
      { uri: 'dst:head/h1', commonName: 'h1' },
    ])
      expect(reads({ certificate: wanted }, head), JSON.stringify(wanted)).to.equal(true)
    for (const wanted of [
      { uri: 'dst:head/H1' },
      { dns: 'example' },
      { commonName: 'h1.example' },
      { uri: 'dst:head/h1', commonName: 'h2' },
    ])
      expect(reads({ certificate: wanted }, head), JSON.stringify(wanted)).to.equal(false)
    for (const other of [local, alice]) expect(reads({ certificate: {} }, other)).to.equal(false)
  })

  it('is for an address in its range', () => {
    const from = (range: string, address: string): boolean =>
      reads({ address: range }, remoteAt(address))
    expect(from('10.0.0.0/8', '10.255.0.1')).to.equal(true)
    expect(from('10.0.0.0/8', '::ffff:10.1.2.3')).to.equal(true)
    expect(from('10.0.0.0/8', '11.0.0.1')).to.equal(false)
    expect(from('10.0.0.7', '10.0.0.7')).to.equal(true)
    expect(from('10.0.0.7', '10.0.0.70')).to.equal(false)
    expect(from('0.0.0.0/0', '::1')).to.equal(false)
    expect(from('::/0', '10.0.0.1')).to.equal(false)
    expect(from('fd00::/8', 'fd12::1')).to.equal(true)
    expect(from('fe80::/10', 'fe80::1%eth0')).to.equal(true)
    expect(reads({ address: '0.0.0.0/0' }, local)).to.equal(false)
  })

  it('needs all that it says of the client', () => {
    expect(reads({ psk: 'alice', address: '10.0.0.0/8' }, alice)).to.equal(true)
    expect(reads({ psk: 'alice', address: '192.0.2.0/24' }, alice)).to.equal(false)
    expect(reads({ psk: 'alice', unix: true }, alice)).to.equal(false)
    expect(reads({ unix: true }, local)).to.equal(true)
  })

  it('counts only if none before it is for the client', () => {
    const rules = new Rules([
      { address: '10.0.0.7', may: [] },
      { address: '10.0.0.0/8', may: ['read', 'list'] },
    ])
    expect(rules.of(remoteAt('10.0.0.7'))).to.deep.equal([])
    expect(rules.of(remoteAt('10.0.0.8'))).to.deep.equal(['read', 'list'])
    expect(rules.of(local)).to.deep.equal([])
    expect(new Rules(null).of(local)).to.include.members(['read', 'write', 'claim', 'list'])
    expect(new Rules([]).of(local)).to.deep.equal([])
  })

  it('has a range that is one', () => {
    for (const text of [
      '::ffff:10.0.0.9',
      '::ffff:a00:9/128',
      '10.0.0.0/33',
      '10.0.0/8',
      '::/129',
      'host',
      '10.0.0.1/',
      '',
      '1/2/3',
    ])
      expect(parseRange(text), text).to.equal(null)
  })
})

describe('the exports that a client sees', () => {
  const device = new Device('disk', new MemoryDriver(MiB, new SeededRandom(1)), systemClock)
  const exported = (name: string) => {
    return { name, device, readOnly: false, mayClaim: true, description: '' }
  }
  const table = new ExportTable([exported('free'), exported('ruled')], systemClock)
  table.apply({
    free: {},
    ruled: {
      allow: [
        { psk: 'alice', may: ['read'] },
        { address: '192.0.2.0/24', may: ['list'] },
        { unix: true, may: ['read', 'write', 'list'] },
      ],
    },
  })
  const names = (entrance: ReturnType<typeof table.entrance>, identity: Identity) =>
    entrance
      .seenBy(identity)
      .list()
      .map(({ name }) => name)

  it('are those of the listener that rules let it see', () => {
    expect(names(table.entrance(), local)).to.deep.equal(['free', 'ruled'])
    expect(names(table.entrance(), remoteAt('10.0.0.7'))).to.deep.equal(['free'])
    expect(names(table.entrance(['ruled']), local)).to.deep.equal(['ruled'])
    expect(names(table.entrance(['free']), local)).to.deep.equal(['free'])
    expect(table.entrance(['free']).seenBy(local).find('ruled')).to.equal(undefined)
  })

  it('can be used without being listed, and be listed without being used', () => {
    const entrance = table.entrance()
    expect(names(entrance, alice)).to.deep.equal(['free'])
    expect(entrance.seenBy(alice).find('ruled')).to.include({ readOnly: true, mayClaim: false })
    const stranger = remoteAt('192.0.2.7')
    expect(names(entrance, stranger)).to.deep.equal(['free', 'ruled'])
    expect(entrance.seenBy(stranger).find('ruled')).to.equal(undefined)
  })

  it('are the same object for all with the same rights, and others for others', () => {
    const entrance = table.entrance()
    const seen = entrance.seenBy(local)
    expect(entrance.seenBy(proven(local, { psk: 'bob' }))).to.equal(seen)
    expect(seen.find('ruled')).to.include({ readOnly: false, mayClaim: false })
    expect(entrance.seenBy(alice)).to.not.equal(seen)
    expect(entrance.seenBy(alice).find('ruled')).to.not.equal(seen.find('ruled'))
    expect(entrance.seenBy(alice).find('free')).to.equal(seen.find('free'))
  })
})
