import { expect } from 'chai'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { dst, Workshop, type DstProcess } from '../support/process.ts'
import { needPrograms } from '../support/programs.ts'

interface Shown {
  readonly state: string
  readonly warnings: readonly string[]
  readonly listeners: readonly { readonly tls: string }[]
  readonly credentials: readonly {
    readonly name: string
    readonly problem: string
    readonly notAfter: string | null
  }[]
}

describe('dst tls', () => {
  let shop: Workshop
  beforeEach(function () {
    needPrograms(this, 'openssl')
    shop = new Workshop()
  })
  afterEach(() => shop.close())

  const at = (...parts: readonly string[]): string => join(shop.folder, ...parts)

  async function make(...words: readonly string[]): Promise<void> {
    const { code, stderr } = await dst(['tls', ...words], shop.folder)
    expect(code, stderr).to.equal(0)
  }

  function serve(allow: readonly object[]): Promise<DstProcess> {
    return shop.serve('t', {
      management: { address: 'unix:dst.sock' },
      credentials: { lan: { certificates: 'pki' } },
      listeners: [{ protocol: 'dst', address: '127.0.0.1:0', credentials: 'lan' }],
      devices: { disk: { type: 'memory', size: '1M' } },
      exports: { disk: { device: 'disk', allow } },
    })
  }

  async function status(): Promise<{ code: number | null; shown: Shown }> {
    const words = ['status', '--json', '--management', 'unix:dst.sock']
    const { code, stdout } = await dst(words, shop.folder)
    return { code, shown: JSON.parse(stdout) as Shown }
  }

  it('makes what a target and its clients need, and rules tell clients apart', async () => {
    await make('init', 'pki', '--host', '127.0.0.1')
    await make('client', 'pki', 'h1', 'h1-pki')
    expect(readdirSync(at('pki')).sort()).to.deep.equal([
      ...['ca-cert.pem', 'ca-key.pem', 'client-cert.pem', 'client-key.pem'],
      ...['server-cert.pem', 'server-key.pem'],
    ])
    expect(statSync(at('pki', 'server-key.pem')).mode & 0o777).to.equal(0o600)
    const named = (commonName: string, may: readonly string[]) => ({
      certificate: { commonName },
      may,
    })
    const target = await serve([named('h1', ['read', 'list']), named('nobody', ['list'])])
    expect((await dst(['check', 't.json'], shop.folder)).code).to.equal(0)
    const [, port] = /dsts:\/\/127\.0\.0\.1:(\d+)\/disk/.exec(target.stdout)!
    const list = (pki: string) =>
      dst(['list', `dsts://127.0.0.1:${port}?tls-certificates=${pki}`], shop.folder)
    expect((await list('h1-pki')).stdout).to.contain('read only')
    expect(await list('pki')).to.include({ code: 0, stdout: '' })
    const { code, shown } = await status()
    expect(code).to.equal(0)
    expect(shown.listeners[0]!.tls).to.equal('required')
    expect(shown.credentials[0]).to.include({ name: 'lan', problem: '' })
  })

  it('replaces nothing, and takes no name that is none', async () => {
    await make('init', 'pki')
    const before = readFileSync(at('pki', 'ca-key.pem'), 'utf8')
    for (const words of [
      ['init', 'pki'],
      ['client', 'pki', 'x', 'pki'],
      ['server', 'pki', 'pki'],
      ['client', 'none', 'x', 'new'],
      ['client', 'pki', 'a/CN=b', 'new'],
      ['server', 'pki', 'new', '--host', 'a,DNS:b'],
      ['init', 'new', '--days', '0'],
    ]) {
      const { code, stderr } = await dst(['tls', ...words], shop.folder)
      expect(code, words.join(' ')).to.equal(2)
      expect(stderr).to.match(/^dst: error: /)
    }
    expect(readFileSync(at('pki', 'ca-key.pem'), 'utf8')).to.equal(before)
  })

  it('has a target say when certificates end, and keep good files for broken ones', async () => {
    await make('init', 'pki', '--host', '127.0.0.1', '--days', '10')
    const target = await serve([{ certificate: { commonName: 'client' }, may: ['read'] }])
    const first = await status()
    expect(first.code).to.equal(1)
    expect(first.shown.state).to.equal('degraded')
    expect(first.shown.warnings.join()).to.match(/server-cert\.pem ends in (9|10) days/)
    const certificate = readFileSync(at('pki', 'server-cert.pem'))
    const change = async (bytes: Buffer, until: RegExp): Promise<Shown> => {
      writeFileSync(at('pki', 'server-cert.pem'), bytes)
      process.kill(target.pid!, 'SIGHUP')
      for (;;) {
        const { shown } = await status()
        if (until.test(shown.warnings.join())) return shown
        await sleep(20)
      }
    }
    const broken = await change(Buffer.from('nothing'), /stays in force/)
    expect(broken.credentials[0]!.problem).to.contain('server-cert.pem: it has no certificate')
    const [, port] = /dsts:\/\/127\.0\.0\.1:(\d+)\/disk/.exec(target.stdout)!
    const uri = `dsts://127.0.0.1:${port}?tls-certificates=pki`
    expect((await dst(['list', uri], shop.folder)).code).to.equal(0)
    const again = await change(certificate, /server-cert\.pem ends/)
    expect(again.credentials[0]!.problem).to.equal('')
  })

  it('lets no target start without good files, and says which', async () => {
    await make('init', 'pki')
    writeFileSync(at('pki', 'ca-cert.pem'), '')
    shop.write('bad', {
      credentials: { lan: { certificates: 'pki' } },
      listeners: [{ protocol: 'nbd', address: '127.0.0.1:0', credentials: 'lan' }],
    })
    for (const command of ['check', 'serve']) {
      const { code, stderr } = await dst([command, 'bad.json'], shop.folder)
      expect(code).to.equal(2)
      expect(stderr).to.contain('pki/ca-cert.pem: it has no certificate')
    }
  })
})
