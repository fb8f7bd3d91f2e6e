import { expect } from 'chai'
import { checkConfig, ConfigError } from '../../src/config/config.ts'

const devices = { disk: { type: 'memory', size: '64M' } }

/** What is wrong with a configuration that has these listeners, or rules of its export. */
function problems(listeners: readonly object[], allow?: readonly object[]): readonly string[] {
  const exports = { home: { device: 'disk', ...(allow === undefined ? {} : { allow }) } }
  return linesOf({ devices, exports, listeners })
}

function linesOf(config: object): readonly string[] {
  try {
    checkConfig(config, '/')
  } catch (error) {
    if (error instanceof ConfigError) return error.lines
    throw error
  }
  return []
}

describe('a listener', () => {
  const at = (address: string, more: object = {}) => [{ protocol: 'nbd', address, ...more }]

  it('that other machines reach has to say that it is open', () => {
    for (const address of ['0.0.0.0:1', '[::]:1', '10.0.0.1:1', 'host.example:1', '[fd00::1]:1']) {
      const found = problems(at(address))
      expect(found, address).to.have.length(1)
      expect(found[0]).to.include('"open": true').and.to.include('/listeners/0/address')
      expect(problems(at(address, { open: true })), address).to.deep.equal([])
    }
  })

  it('that other machines reach by TLS needs rules for what it serves', () => {
    const credentials = { lan: { psk: 'keys.psk' } }
    const listening = (more: object, allow?: readonly object[]) => {
      const exports = { home: { device: 'disk', ...(allow && { allow }) }, own: { device: 'disk' } }
      const listener = { protocol: 'nbd', address: '0.0.0.0:1', credentials: 'lan', ...more }
      return linesOf({ credentials, devices, exports, listeners: [listener] })
    }
    const rules = [{ psk: 'alice', may: ['read'] }]
    expect(listening({}, rules).join()).to.include('"own", which has no "allow"')
    expect(listening({ exports: ['home'] }).join()).to.include('"home", which has no "allow"')
    expect(listening({ exports: ['home'] }, rules).join()).to.not.include('allow')
    expect(listening({ open: true }).join()).to.not.include('allow')
  })

  it('of this machine alone need not', () => {
    for (const address of [
      '127.0.0.1:1',
      '127.9.9.9:1',
      '[::1]:1',
      'localhost:1',
      'unix:/run/x.sock',
    ])
      expect(problems(at(address)), address).to.deep.equal([])
  })

  it('serves exports that there are', () => {
    expect(problems(at('[::1]:1', { exports: ['home'] }))).to.deep.equal([])
    const [line] = problems(at('[::1]:1', { exports: ['hoem'] }))
    expect(line).to.include('there is no export "hoem"').and.to.include('"home"')
    expect(problems(at('[::1]:1', { exports: [] }))).to.have.length(1)
  })
})

describe('a management', () => {
  const credentials = { lan: { certificates: 'pki' }, keys: { psk: 'keys.psk' } }
  const at = (address: string, more: object = {}) =>
    linesOf({ credentials, devices, management: { address, ...more } })
  /** What is wrong with it; files that are not there are not meant. */
  const wrong = (address: string, more: object) =>
    at(address, more).filter((line) => !line.includes('it is not there'))
  const allow = [{ address: '10.0.0.0/8', role: 'view' }]
  const beyond = '0.0.0.0:4480'

  it('that other machines reach has TLS and rules, or says that it is open', () => {
    expect(at(beyond).join()).to.include('"open": true').and.include('/management/address')
    expect(at(beyond, { open: true })).to.deep.equal([])
    for (const address of ['127.0.0.1:4480', '[::1]:4480', 'unix:/run/x.sock'])
      expect(at(address)).to.deep.equal([])
    expect(at(beyond, { credentials: 'lan' }).join()).to.include('"allow" or "tokens" is missing')
    expect(at(beyond, { allow }).join()).to.include('"credentials" for TLS are missing')
    for (const more of [{ allow }, { allow: [] }, { tokens: 'tokens' }])
      expect(wrong(beyond, { credentials: 'lan', ...more })).to.deep.equal([])
    expect(wrong(beyond, { credentials: 'lan', open: true })).to.deep.equal([])
  })

  it('has no tokens in clear, neither where it is open nor on this machine', () => {
    for (const address of [beyond, '127.0.0.1:4480'])
      for (const open of [true, false])
        expect(at(address, { tokens: 'tokens', open }).join()).to.include('tokens need TLS')
    expect(wrong('[::1]:1', { credentials: 'lan', tokens: 'tokens' })).to.deep.equal([])
  })

  it('has rules over TCP alone, each for somebody', () => {
    for (const more of [{ allow }, { tokens: 'tokens' }, { credentials: 'lan' }])
      expect(wrong('unix:/run/x.sock', more).join()).to.include('is said by its mode')
    const ruled = (rule: object) => wrong(beyond, { credentials: 'lan', allow: [rule] })
    expect(ruled({ role: 'view' }).join()).to.include('does not say who it is for')
    expect(ruled({ address: '10.0.0.0/8' }).join()).to.include('"role" is missing')
    expect(ruled({ address: '10.0.0', role: 'view' }).join()).to.include(
      '/management/allow/0/address',
    )
    expect(ruled({ certificate: {}, role: 'view' })).to.have.length(1)
    const certificate = [{ certificate: { commonName: 'ops' }, role: 'view' }]
    expect(at('127.0.0.1:1', { allow: certificate }).join()).to.include('needs TLS')
  })

  it('has certificates, and an authority only where a rule asks for one', () => {
    expect(wrong(beyond, { credentials: 'keys', allow }).join()).to.include(
      'https needs certificates',
    )
    expect(wrong(beyond, { credentials: 'lam', allow }).join()).to.include('no credential "lam"')
    const pair = { pair: { certificate: 'a.crt', key: 'a.key' } }
    const named = (rules: readonly object[]) =>
      linesOf({
        devices,
        credentials: pair,
        management: { address: beyond, credentials: 'pair', allow: rules },
      })
    expect(named(allow).join()).to.not.include('needs "authority"')
    const certificate = [{ certificate: { commonName: 'ops' }, role: 'view' }]
    expect(named(certificate).join()).to.include('needs "authority"')
  })

  it('is one place, or several', () => {
    const of = (...management: readonly object[]) => linesOf({ devices, management })
    expect(of({ address: 'unix:/run/x.sock' }, { address: '127.0.0.1:1' })).to.deep.equal([])
    expect(of({ address: 'unix:/x' }, { address: 'unix:/x' }).join()).to.include('used twice')
    expect(of({ address: 'unix:/x' }, { address: beyond }).join()).to.include(
      '/management/1/address',
    )
    expect(of({ address: 'unix:/x', adress: 1 }).join()).to.include('/management/0/adress')
  })
})

describe('the rules of an export', () => {
  it('say who they are for, and which rights go together', () => {
    const unix = { unix: true, may: ['read', 'write', 'claim', 'list'] }
    expect(problems([], [unix, { address: 'fd00::/8', may: [] }])).to.deep.equal([])
    const wrong: [object, string][] = [
      [{ may: ['read'] }, 'allow/0'],
      [{ unix: true, may: ['write'] }, '"write" needs "read"'],
      [{ unix: true, may: ['read', 'claim'] }, '"claim" needs "write"'],
      [{ address: '10.0.0.0/40', may: ['read'] }, '10.0.0.0/8'],
      [{ unix: true, may: ['red'] }, 'read'],
      [{ unix: false, may: ['read'] }, 'unix'],
      [{ certificate: {}, may: ['read'] }, 'certificate'],
      [{ certificate: { fingerprint: 'ab' }, may: ['read'] }, 'fingerprint'],
    ]
    for (const [rule, part] of wrong) {
      const found = problems([], [rule])
      expect(found.length, JSON.stringify(rule)).to.be.above(0)
      expect(found.join('\n')).to.include(part)
    }
  })
})
