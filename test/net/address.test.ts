import { expect } from 'chai'
import { parseAddress, whyNoAddress } from '../../src/net/address.ts'
import { parseUri } from '../../src/net/uri.ts'

describe('an address', () => {
  it('is a host with a port, or a path', () => {
    for (const text of [
      '127.0.0.1:4470',
      'localhost:1',
      'a-b_c.example.:65535',
      'münchen.example:1',
      '[::1]:4470',
      '[fe80::1%eth0]:4470',
      'unix:run/x.sock',
    ])
      expect(parseAddress(text), text).to.not.equal(null)
    expect(parseAddress('host', 4470)).to.deep.equal({ kind: 'tcp', host: 'host', port: 4470 })
  })

  it('without a port is told what would be one, where none is left out', () => {
    expect(whyNoAddress('127.0.0.1')).to.equal('the port is missing, as in 127.0.0.1:4470')
  })

  it('is nothing that another program or a system reads in another way', () => {
    for (const [text, why] of [
      ['21809', 'only a port'],
      [':21809', 'only a port'],
      ['*:10809', '"*" is no host'],
      ['*', '"*" is no host'],
      ['-oProxyCommand=x:1', 'does not begin with "-"'],
      ['/run/x.sock', 'unix:/run/x.sock'],
      ['run/x', 'unix:run/x'],
      ['x.sock', 'unix:x.sock'],
      ['[*]:1', '"*" is no host'],
      ['tcp://0.0.0.0:10809', 'as in 0.0.0.0:10809'],
      ['nbd://127.0.0.1:10809/home', 'as in 127.0.0.1:10809'],
      ['tcp:1.2.3.4:5', 'as in 1.2.3.4:5'],
      ['unix:', 'the path is missing'],
      // With a port behind it, it would be a path.
      ['unix', 'the path is missing'],
      ['UNIX:/run/x', 'written small'],
      ['host:nbd', '"nbd" is no port'],
      ['./x.sock', 'unix:./x.sock'],
      ['::1', 'in brackets'],
      ['::1:4470', 'in brackets'],
      ['1.2.3:4470', 'no address'],
      ['256.1.1.1:4470', 'no address'],
      ['[1.2.3.4]:4470', 'no address'],
      ['host:99999', 'no address'],
      ['a b:1', 'no address'],
      ['a;b:1', 'no address'],
      ['', 'no address'],
    ] as const) {
      expect(parseAddress(text, 10809), text).to.equal(null)
      expect(whyNoAddress(text), text).to.contain(why)
    }
  })

  it('of a URI is one that can be connected to', () => {
    for (const text of ['dst://-x/a', 'dst://*/a', 'nbd://4470/a', 'dst://host:0/a'])
      expect(parseUri(text), text).to.be.a('string')
    expect(parseUri('dst://host/a')).to.be.an('object')
  })

  it('of a URI may have any character, a line break too', () => {
    for (const text of ['dst://a\nb/a', 'dst://\n', 'dsts://a\nb@host\u2028/x', 'nbd://a\r:1/x'])
      expect(parseUri(text), text).to.be.a('string')
  })
})
