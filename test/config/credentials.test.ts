import { expect } from 'chai'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { checkConfig, ConfigError } from '../../src/config/config.ts'
import { makeKeys, makePki } from '../support/authority.ts'

describe('credentials of a configuration', () => {
  let folder: string

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'dst-credentials-'))
    makePki(folder)
    makeKeys(join(folder, 'keys.psk'), 'alice')
  })

  after(() => rmSync(folder, { recursive: true }))

  /** The lines of what is wrong; none when it is right. */
  function problems(config: object): readonly string[] {
    try {
      checkConfig(config, folder)
      return []
    } catch (error) {
      if (error instanceof ConfigError) return error.lines
      throw error
    }
  }

  function expectOne(config: object, what: RegExp): void {
    const found = problems(config)
    expect(found, found.join('\n')).to.have.length(1)
    expect(found[0]).to.match(what)
  }

  const credentials = { lan: { certificates: 'pki' }, keys: { psk: 'keys.psk' } }
  const listener = (more: object) => ({
    credentials,
    listeners: [{ protocol: 'nbd', address: '0.0.0.0:0', ...more }],
  })
  const remote = (more: object, all: object = credentials) => ({
    credentials: all,
    devices: { a: { type: 'remote', ...more } },
  })

  it('let a listener serve other machines', () => {
    expect(problems(listener({ credentials: 'lan' }))).to.deep.equal([])
    expect(problems(listener({ credentials: 'keys', tls: 'required' }))).to.deep.equal([])
    expectOne(listener({}), /"credentials" for TLS are missing/)
    expectOne(listener({ credentials: 'lan', tls: 'allowed' }), /"open": true/)
    const open = listener({ credentials: 'lan', tls: 'allowed', open: true })
    expect(checkConfig(open, folder).warnings.join()).to.match(/who is on the way/)
  })

  it('have to be there where they are named, and to be needed there', () => {
    expectOne(listener({ credentials: 'lam' }), /no credential "lam".*"lan"/)
    expectOne(listener({ tls: 'required' }), /no "credentials" are named/)
    expectOne(listener({ credentials: 'lan', tls: 'off', open: true }), /TLS is off/)
    const dst = { protocol: 'dst', credentials: 'lan', tls: 'allowed', open: true }
    expectOne(listener(dst), /from the first byte/)
    expectOne(remote({ uri: 'dst://h/x', credentials: 'lan' }), /dsts:\/\//)
    expectOne(remote({ uri: 'dsts://h/x' }), /"credentials" are missing/)
    const twice = { uri: 'dsts://h/x?tls-psk-file=keys.psk', credentials: 'lan' }
    expectOne(remote(twice), /choose one place/)
    expect(problems(remote({ uri: 'dsts://h/x', credentials: 'lan' }))).to.deep.equal([])
    const own = 'dsts://h/x?tls-psk-file=keys.psk'
    const { config } = checkConfig(remote({ uri: own }), folder)
    expect(JSON.stringify(config)).to.contain(`tls-psk-file=${folder}/keys.psk`)
  })

  it('are of one kind', () => {
    const one = (credential: object) => ({ credentials: { one: credential } })
    expectOne(one({}), /no files are named/)
    expectOne(one({ psk: 'k', certificates: 'pki' }), /two kinds/)
    expectOne(one({ certificates: 'pki', user: 'a' }), /"user" is for keys/)
    expectOne(one({ psk: 'k', minVersion: '1.1' }), /1\.2, 1\.3/)
    const authority = { credentials: { one: { authority: 'pki/ca-cert.pem' } } }
    const used = { protocol: 'nbd', address: '127.0.0.1:0', credentials: 'one' }
    const found = problems({ ...authority, listeners: [used] })
    expect(found.join()).to.contain('the server needs "certificate" too').and.contain('"key"')
  })

  it('have files that can be used', () => {
    writeFileSync(join(folder, 'open.psk'), 'a:00', { mode: 0o644 })
    const withPsk = (psk: string) => ({
      credentials: { k: { psk } },
      listeners: [{ protocol: 'nbd', address: '127.0.0.1:0', credentials: 'k' }],
    })
    expectOne(withPsk('none.psk'), /none\.psk: it is not there/)
    expectOne(withPsk('open.psk'), /open\.psk: its mode is 644/)
    const nested = { type: 'remote', uri: 'dsts://h/x', credentials: 'k' }
    const linear = { type: 'linear', parts: [nested] }
    expectOne({ credentials: { k: { psk: 'none.psk' } }, devices: { a: linear } }, /not there/)
  })
})
