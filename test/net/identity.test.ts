import { expect } from 'chai'
import { assert } from '../../src/base/errors.ts'
import type { Address } from '../../src/net/address.ts'
import {
  local,
  proven,
  provenKey,
  provenName,
  remoteAt,
  type Identity,
  type Proof,
} from '../../src/net/identity.ts'
import type { Connection } from '../../src/net/network.ts'
import { SocketNetwork } from '../../src/net/sockets.ts'
import { removeFolder, temporaryFolder } from '../support/files.ts'

const key = (proof: Proof): string => provenKey(proven(local, proof))

function certificate(names: readonly string[], commonName: string | null, fingerprint = 'aa') {
  return { names, commonName, fingerprint }
}

describe('identity', () => {
  it('tells an address without its port, and IPv4 within IPv6 as IPv4', () => {
    expect(remoteAt('::ffff:10.1.2.3').address).to.equal('10.1.2.3')
    expect(remoteAt('fe80::1').address).to.equal('fe80::1')
    expect(remoteAt('10.1.2.3')).to.deep.equal({
      transport: 'tcp',
      address: '10.1.2.3',
      tls: null,
    })
  })

  it('is the same for a renewed certificate, and not for another name', () => {
    const old = certificate(['dst:head/h1', 'h1'], 'h1', 'aa')
    const renewed = certificate(['h1', 'dst:head/h1'], 'h1', 'bb')
    expect(key(old)).to.equal(key(renewed))
    expect(key(old)).not.to.equal(key(certificate(['h1'], 'h1', 'aa')))
    expect(key(certificate([], 'h1', 'aa'))).to.equal(key(certificate([], 'h1', 'bb')))
    expect(key(certificate([], null, 'aa'))).not.to.equal(key(certificate([], null, 'bb')))
  })

  it('never mixes up kinds of proof, whatever names a peer has', () => {
    const keys = [
      '',
      key({ psk: 'h1' }),
      key(certificate(['h1'], null)),
      key(certificate([], 'h1')),
      key(certificate(['a","b'], null)),
      key(certificate(['a', 'b'], null)),
    ]
    expect(new Set(keys).size).to.equal(keys.length)
  })

  it('has a short name for people', () => {
    expect(provenName(local)).to.equal('')
    expect(provenName(proven(local, { psk: 'alice' }))).to.equal('psk:alice')
    expect(provenName(proven(local, certificate([], 'h1')))).to.equal('x509:h1')
    expect(provenName(proven(local, certificate([], null, 'ab')))).to.equal('x509:ab')
  })

  it('is what connections carry, on both sides, over TCP and unix sockets', async () => {
    const folder = await temporaryFolder()
    try {
      const tcp = { kind: 'tcp', host: '127.0.0.1', port: 0 } as const
      const unix = { kind: 'unix', path: `${folder}/s` } as const
      expect(await identitiesOver(tcp)).to.deep.equal(Array(2).fill(remoteAt('127.0.0.1')))
      expect(await identitiesOver(unix)).to.deep.equal(Array(2).fill(local))
    } finally {
      await removeFolder(folder)
    }
  })
})

/** Resolves to what the two sides of a connection know of each other. */
async function identitiesOver(address: Address): Promise<readonly Identity[]> {
  const network = new SocketNetwork()
  const seen: Identity[] = []
  let done: () => void
  const both = new Promise<void>((resolve) => (done = resolve))
  const look = ({ identity }: Connection): void => {
    if (seen.push(identity) === 2) done()
  }
  const listener = await network.listen(address, (connection) => {
    look(connection)
    return null
  })
  network.connect(
    listener.address,
    5000,
    (connection) => {
      look(connection)
      return { landing: () => Buffer.alloc(1), landed, sent: landed, closed: landed }
    },
    (error) => assert(false, error.message),
  )
  await both
  await listener.close()
  return seen
}

function landed(): void {
  // Nothing is said.
}
