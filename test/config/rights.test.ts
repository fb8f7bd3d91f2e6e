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
  it('that other machines reach has to say that it is open', () => {
    const at = (address: string, more: object = {}) =>
      linesOf({ devices, management: { address, ...more } })
    expect(at('0.0.0.0:4480').join()).to.include('"open": true').and.include('/management/address')
    expect(at('0.0.0.0:4480', { open: true })).to.deep.equal([])
    for (const address of ['127.0.0.1:4480', '[::1]:4480', 'unix:/run/x.sock'])
      expect(at(address)).to.deep.equal([])
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
