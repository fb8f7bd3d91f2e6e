import { expect } from 'chai'
import { originOf } from '../../src/net/address.ts'
import { descriptorsOf, openDescriptors } from '../../src/net/descriptors.ts'
import type { Connection } from '../../src/net/network.ts'
import { Places } from '../../src/export/places.ts'
import { Sink } from '../support/sink.ts'
import { defaultLimits } from '../support/limits.ts'

function from(origin: string | undefined, descriptor?: number): Connection {
  return Object.assign(new Sink(), { origin, descriptor })
}

describe('places of connections', () => {
  const limits = { ...defaultLimits, connections: 8, connectionsPerPeer: 3 }

  it('are not all taken by one address, nor by one network of IPv6', () => {
    const places = new Places(limits)
    for (const host of ['10.0.0.1', '2001:db8::1']) {
      const origin = originOf(host)
      for (let at = 0; at < 3; at++) expect(places.enter(from(origin))).to.equal(true)
      expect(places.enter(from(origin))).to.equal(false)
    }
    expect(places.enter(from(originOf('2001:db8::2:3')))).to.equal(false)
    expect(places.enter(from(originOf('2001:db8:0:1::1')))).to.equal(true)
    expect(places.enter(from(originOf('10.0.0.2')))).to.equal(true)
    expect(places.enter(from(originOf('10.0.0.3')))).to.equal(false)
    expect(places.refused).to.include({ connections: 1, connectionsPerPeer: 3 })
  })

  it('of unix sockets are not taken by clients over TCP, nor the other way round', () => {
    const places = new Places(limits)
    for (let at = 0; at < 8; at++) expect(places.enter(from(`10.0.0.${at}`))).to.equal(true)
    expect(places.enter(from('10.0.0.9'))).to.equal(false)
    // Nothing tells one client of a unix socket from another.
    for (let at = 0; at < 8; at++) expect(places.enter(from(undefined))).to.equal(true)
    expect(places.enter(from(undefined))).to.equal(false)
  })

  it('are free again for others and for the same', () => {
    const places = new Places(limits)
    const all = Array.from({ length: 3 }, () => from('10.0.0.1'))
    for (const connection of all) places.enter(connection)
    for (const connection of all) places.leave(connection)
    for (const connection of all) expect(places.enter(connection)).to.equal(true)
    expect(places.enter(from('10.0.0.1'))).to.equal(false)
    places.leave(all[0]!)
    expect(places.enter(from('10.0.0.1'))).to.equal(true)
  })

  it('need descriptors that are not kept back for everything else', () => {
    const places = new Places(limits, undefined, descriptorsOf(60))
    expect(places.enter(from('10.0.0.1', 43))).to.equal(true)
    expect(places.enter(from('10.0.0.1', 44))).to.equal(false)
    expect(places.enter(from(undefined, 59))).to.equal(false)
    expect(places.refused.descriptors).to.equal(2)
  })

  it('keep back a tenth of the descriptors, enough of few and not all too many', () => {
    const kept = [16, 60, 1024, 1_000_000].map((limit) => descriptorsOf(limit).kept)
    expect(kept).to.deep.equal([8, 16, 102, 512])
  })

  it('know what the system allows', function () {
    if (process.platform !== 'linux') this.skip()
    expect(openDescriptors()!.limit).to.be.above(0)
  })

  it('count addresses that are written in different ways as one', () => {
    expect(originOf('::ffff:10.0.0.1')).to.equal(originOf('10.0.0.1'))
    expect(originOf('2001:db8:1:2:3:4:5:6')).to.equal(originOf('2001:db8:1:2::9'))
    expect(originOf('2001:db8::')).to.equal(originOf('2001:db8::1'))
    expect(originOf('2001::')).to.not.equal(originOf('2001:1::'))
    expect(originOf('::1')).to.equal('0:0:0:0::/64')
    expect(originOf('fe80::1%eth0')).to.not.equal(originOf('fe80::2%eth0'))
  })
})
