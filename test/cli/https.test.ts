import { expect } from 'chai'
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { dst, Workshop, type DstProcess } from '../support/process.ts'
import { needPrograms, type Outcome } from '../support/programs.ts'

interface Shown {
  readonly state: string
  readonly warnings: readonly string[]
  readonly credentials: readonly { readonly role: string; readonly notAfter: string | null }[]
}

describe('dst over https', () => {
  let shop: Workshop
  let target: DstProcess
  let url: string
  beforeEach(async function () {
    needPrograms(this, 'openssl')
    shop = new Workshop()
    await run('tls', 'init', 'pki', '--host', '127.0.0.1', '--client', 'ops')
    mkdirSync(at('ca'))
    copyFileSync(at('pki', 'ca-cert.pem'), at('ca', 'ca-cert.pem'))
    writeFileSync(at('tokens'), await newToken('looker', 'view'), { mode: 0o600 })
    const leg = { type: 'memory', size: '8M' }
    target = await shop.serve('t', {
      credentials: { lan: { certificates: 'pki' } },
      management: [
        { address: 'unix:dst.sock' },
        {
          address: '127.0.0.1:0',
          credentials: 'lan',
          tokens: 'tokens',
          allow: [{ certificate: { commonName: 'ops' }, role: 'manage' }],
        },
      ],
      devices: { m: { type: 'mirror', legs: { a: leg, b: leg } } },
    })
    url = /^management {2}(https:\/\/127\.0\.0\.1:\d+)$/m.exec(target.stdout)![1]!
  })
  afterEach(() => shop.close())

  const at = (...parts: readonly string[]): string => join(shop.folder, ...parts)

  async function run(...words: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await dst(words, shop.folder)
    expect(code, stderr).to.equal(0)
    return stdout
  }

  /** Makes a token, and its file, which has its name. Resolves to its line. */
  async function newToken(name: string, role: string): Promise<string> {
    const made = await run('token', name, '--role', role, '--json')
    const { token, line } = JSON.parse(made) as { token: string; line: string }
    writeFileSync(at(name), `${token}\n`, { mode: 0o600 })
    return `${line}\n`
  }

  const by = (pki: string): string[] => ['--management', `${url}?tls-certificates=${pki}`]
  const withToken = (name: string): string[] => [...by('ca'), '--token-file', name]
  const tried = (...words: readonly string[]): Promise<Outcome> => dst(words, shop.folder)

  it('gives commands with a certificate, and looks with a token', async () => {
    expect(await run('leg', 'detach', 'm', 'b', ...by('pki'))).to.equal('m/b is detached\n')
    expect(target.stderr).to.match(/\(x509:ops\)","command":"leg\.detach"/)
    const history = await run('volume', 'history', 'm', ...withToken('looker'))
    expect(history).to.contain('left as detached')
    const refused = await tried('leg', 'attach', 'm', 'b', ...withToken('looker'))
    expect(refused.code).to.equal(1)
    expect(refused.stderr).to.contain('token:looker may view, and a command needs "manage"')
    // The unix socket asks nothing.
    expect((await tried('leg', 'attach', 'm', 'b', '--management', 'unix:dst.sock')).code).to.equal(
      0,
    )
  })

  it('exits by 4 where the target does not let it in, and says what is missing', async () => {
    await newToken('unheard', 'manage')
    await run('tls', 'client', 'pki', 'eve', 'eve')
    for (const words of [by('ca'), by('eve'), withToken('unheard')]) {
      const { code, stderr, stdout } = await tried('status', ...words)
      expect(code, stderr).to.equal(4)
      expect(stderr).to.contain('the target refuses (401)').and.contain('--token-file')
      expect(stdout).to.equal('')
    }
  })

  it('takes no impostor for the target, and no way around that', async () => {
    await run('tls', 'init', 'other', '--host', '127.0.0.1')
    for (const [words, code, why] of [
      [by('other'), 4, /the certificate of the server: /],
      [['--management', url], 4, /the certificate of the server: /],
      [['--management', `${url}?tls-certificates=ca&tls-hostname=else`], 4, /ALTNAME/],
      [['--management', `${url}?tls-certificates=ca&tls-verify-peer=0`], 2, /not possible here/],
      [['--management', `${url}?tls-psk-file=x`], 2, /goes by certificates/],
      [['--management', `${url}/v1`], 2, /without a path/],
      [['--management', `${url}?tls-certificates=none`], 2, /ca-cert\.pem: it is not there/],
      [['--management', '10.0.0.1:4480', '--token-file', 'looker'], 2, /without https/],
      [['--management', '127.0.0.1:4480', '--token-file', 'looker'], 2, /without https/],
    ] as const) {
      const outcome = await tried('status', ...words)
      expect(outcome.code, outcome.stderr).to.equal(code)
      expect(outcome.stderr).to.match(why)
    }
  })

  it('reads a token that is alone in a file for its user alone', async () => {
    writeFileSync(at('two'), 'dst_a\ndst_b\n', { mode: 0o600 })
    chmodSync(at('looker'), 0o644)
    for (const [name, why] of [
      ['two', /not a token alone/],
      ['looker', /its mode is 644/],
      ['none', /it is not there/],
    ] as const) {
      const { code, stderr } = await tried('status', ...withToken(name))
      expect(code).to.equal(2)
      expect(stderr).to.match(why).and.not.contain('dst_')
    }
  })

  it('has a target take tokens while it runs, and say when their file is broken', async () => {
    const status = async (): Promise<Shown> =>
      JSON.parse((await tried('status', '--json', '--management', 'unix:dst.sock')).stdout) as Shown
    const first = await status()
    expect(first.credentials.map(({ role }) => role)).to.deep.equal(['server', 'tokens'])
    expect(first.credentials[0]!.notAfter).to.be.a('string')
    const good = await newToken('renewed', 'view')
    const change = async (text: string, isSo: () => Promise<boolean>): Promise<void> => {
      writeFileSync(at('tokens'), text)
      process.kill(target.pid!, 'SIGHUP')
      while (!(await isSo())) await sleep(20)
    }
    const codeOf = async (name: string): Promise<number | null> =>
      (await tried('status', ...withToken(name))).code
    await change(good, async () => (await codeOf('looker')) === 4)
    expect(await codeOf('renewed')).to.equal(0)
    await change('nonsense', async () => (await status()).state === 'degraded')
    expect((await status()).warnings.join()).to.match(/tokens: line 1: .*stays in force/)
    expect(await codeOf('renewed')).to.equal(1)
    await change(good, async () => (await status()).state === 'healthy')
  })

  it('makes no token for a name or a role that is none', async () => {
    for (const words of [['a:b', '--role', 'view'], ['a', '--role', 'root'], ['a']])
      expect((await tried('token', ...words)).code, words.join(' ')).to.equal(2)
    const [one, other] = [await newToken('a', 'view'), await newToken('a', 'view')]
    expect(one).to.not.equal(other)
  })
})
