import { expect } from 'chai'
import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { SeededRandom } from '../support/seeded.ts'
import { Credential } from '../../src/net/tls/credential.ts'
import { parseKeys } from '../../src/net/tls/keys.ts'
import { namesOf, proofOf } from '../../src/net/tls/names.ts'
import { issuedOf, parseRevocations } from '../../src/net/tls/revocations.ts'
import { certificateFiles } from '../../src/net/tls/source.ts'
import { makePki, TestAuthority } from '../support/authority.ts'

const key = '00112233445566778899aabbccddeeff'

describe('a file of keys', () => {
  it('is read as psktool writes it', () => {
    const keys = parseKeys(`alice:${key}\n# a comment\n\r\n#613a6223632064:${key.toUpperCase()}\n`)
    expect(keys).to.be.instanceOf(Map)
    if (typeof keys === 'string') return
    expect([...keys.keys()]).to.deep.equal(['alice', 'a:b#c d'])
    expect(keys.get('a:b#c d')!.toString('hex')).to.equal(key)
  })

  it('is refused with the line, and without what stands there', () => {
    const wrong: readonly [string, RegExp][] = [
      ['', /no key/],
      [key, /line 1: .*identity:key/],
      [`:${key}`, /identity:key/],
      [`a:${key}\nb:secret`, /line 2: .*hexadecimal/],
      ['a:0011', /2 bytes/],
      [`a:${'00'.repeat(257)}`, /257 bytes/],
      [`a:${key}\na:${key}`, /line 2: .*already/],
      [`${'x'.repeat(129)}:${key}`, /128 bytes/],
      [`#ff:${key}`, /no text/],
      [`a\u0007:${key}`, /no text/],
    ]
    for (const [text, what] of wrong) {
      const said = parseKeys(text)
      expect(said, text).to.be.a('string').and.match(what)
      expect(said).not.to.contain('secret').and.not.to.contain(key)
    }
  })
})

describe('names of a certificate', () => {
  it('are those of hosts and URIs, also with characters that are in the way', () => {
    expect(namesOf('')).to.deep.equal([])
    expect(namesOf('DNS:A.example, IP Address:10.0.0.1, URI:dst:head/h1')).to.deep.equal([
      'a.example',
      'dst:head/h1',
    ])
    expect(namesOf('URI:"dst:a, DNS:b", DNS:c')).to.deep.equal(['dst:a, DNS:b', 'c'])
    expect(namesOf('DNS:"dst:head\u002fh1", URI:h1')).to.deep.equal([])
    expect(namesOf('DNS:"broken')).to.equal(null)
    expect(namesOf('no kind')).to.equal(null)
  })

  it('cannot be put into others by their owner', () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'dst-tls-'))
    const authority = new TestAuthority(path.join(folder, 'ca'))
    const place = authority.issue(path.join(folder, 'x'), {
      commonName: 'x, CN = admin\\, DNS:admin',
      names: '@other\n[other]\nURI.1=dst:x, DNS:admin',
      purpose: 'client',
    })
    const certificate = new X509Certificate(readFileSync(path.join(place, 'client-cert.pem')))
    const proof = proofOf(certificate)!
    expect(proof.commonName).to.not.equal('admin')
    expect(proof.names).to.not.include('admin')
    expect(proof.fingerprint).to.match(/^[0-9a-f]{64}$/)
    rmSync(folder, { recursive: true })
  })
})

describe('files of TLS', () => {
  let folder: string
  let authority: TestAuthority
  const at = (...parts: readonly string[]): string => path.join(folder, ...parts)

  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'dst-tls-'))
    authority = makePki(folder)
  })

  afterEach(() => rmSync(folder, { recursive: true }))

  function problemOf(): string {
    const credential = new Credential(
      certificateFiles({ certificates: at('pki') }, 'server', '1.3'),
      systemClock,
    )
    credential.read()
    return credential.problem
  }

  it('are refused with the file and the reason', () => {
    expect(problemOf()).to.equal('')
    const good = at('good')
    renameSync(at('pki'), good)
    const files = ['ca-cert.pem', 'server-cert.pem', 'server-key.pem']
    const restore = (): void => {
      rmSync(at('pki'), { recursive: true, force: true })
      mkdirSync(at('pki'))
      for (const file of files) copyFileSync(path.join(good, file), at('pki', file))
      chmodSync(at('pki', 'server-key.pem'), 0o600)
    }
    const expectProblem = (file: string, what: RegExp): void => {
      expect(problemOf())
        .to.contain(`${at('pki', file)}: `)
        .and.match(what)
      restore()
      expect(problemOf()).to.equal('')
    }
    restore()
    for (const file of files) {
      rmSync(at('pki', file))
      expectProblem(file, /not there/)
    }
    for (const file of ['ca-cert.pem', 'server-cert.pem']) {
      writeFileSync(at('pki', file), 'nothing')
      expectProblem(file, /no certificate/)
      const text = readFileSync(path.join(good, file), 'utf8')
      writeFileSync(at('pki', file), text.replace(/\n.{20}/, '\nAAAAAAAAAAAAAAAAAAAA'))
      expectProblem(file, /damaged/)
    }
    writeFileSync(at('pki', 'server-key.pem'), 'nothing')
    expectProblem('server-key.pem', /no private key/)
    chmodSync(at('pki', 'server-key.pem'), 0o644)
    expectProblem('server-key.pem', /mode is 644/)
    copyFileSync(path.join(good, 'client-key.pem'), at('pki', 'server-key.pem'))
    expectProblem('server-key.pem', /not the key of/)
    execFileSync('openssl', [
      ...['pkey', '-in', path.join(good, 'server-key.pem'), '-aes256', '-passout', 'pass:x'],
      ...['-out', at('pki', 'server-key.pem')],
    ])
    expectProblem('server-key.pem', /passphrase/)
    writeFileSync(at('pki', 'ca-crl.pem'), 'nothing')
    expectProblem('ca-crl.pem', /no list of revoked/)
    mkdirSync(at('pki', 'ca-crl.pem'))
    expectProblem('ca-crl.pem', /no file/)
    execFileSync('mkfifo', [at('pki', 'ca-crl.pem')])
    expectProblem('ca-crl.pem', /no file/)
  })

  it('are not read again until they change, for that ends handshakes under way', async () => {
    const source = certificateFiles({ certificates: at('pki') }, 'server', '1.3')
    const credential = new Credential(source, systemClock)
    credential.read()
    const { inForce } = credential
    expect(await credential.look()).to.equal('same')
    expect(credential.inForce).to.equal(inForce)
    authority.issue(at('pki'), { commonName: 's', purpose: 'server' })
    expect(await credential.look()).to.equal('read')
    expect(await credential.look()).to.equal('same')
    rmSync(at('pki', 'server-key.pem'))
    expect(await credential.look()).to.equal('broken')
    expect(await credential.look()).to.equal('broken')
  })

  it('tell what ends first, the list of revoked certificates included', () => {
    const credential = new Credential(
      certificateFiles({ certificates: at('pki') }, 'server', '1.3'),
      systemClock,
    )
    const day = 24 * 3600 * 1000
    const daysLeft = (): number => {
      credential.read()
      expect(credential.problem).to.equal('')
      return Math.round((credential.expiry!.notAfter - systemClock.wall()) / day)
    }
    expect(daysLeft()).to.equal(30)
    authority.issue(at('pki'), { commonName: 's', purpose: 'server', days: 3 })
    expect(daysLeft()).to.equal(3)
    expect(credential.expiry!.path).to.equal(at('pki', 'server-cert.pem'))
    authority.revoke(at('pki', 'client-cert.pem'), at('pki'))
    const text = readFileSync(at('pki', 'ca-crl.pem'), 'utf8')
    const list = parseRevocations(Buffer.from(text.replace(/-----.*-----/g, ''), 'base64'))!
    const client = new X509Certificate(readFileSync(at('pki', 'client-cert.pem')))
    const issued = issuedOf(client.raw)!
    expect(list.issuer).to.equal(issued.issuer)
    expect([...list.serials]).to.deep.equal([issued.serial])
    expect(Math.round((list.nextUpdate! - systemClock.wall()) / day)).to.equal(30)
  })

  it('are never taken for others when they are damaged', () => {
    const random = new SeededRandom(1)
    authority.revoke(at('pki', 'client-cert.pem'), at('pki'))
    const text = readFileSync(at('pki', 'ca-crl.pem'), 'utf8')
    const list = Buffer.from(text.replace(/-----.*-----/g, ''), 'base64')
    for (let length = 0; length < list.length; length++)
      expect(parseRevocations(list.subarray(0, length)), String(length)).to.equal(null)
    for (let times = 0; times < 20_000; times++) {
      const bytes = Buffer.from(list)
      const [where, value] = random.bytes(2)
      bytes[where! % Math.min(120, bytes.length)] = value!
      // Any answer will do, but it has to come.
      parseRevocations(bytes)
      issuedOf(bytes)
    }
  })
})
