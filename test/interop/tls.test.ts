import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { makeKeys, makePki, type TestAuthority } from '../support/authority.ts'
import { dst, Workshop, type DstProcess } from '../support/process.ts'
import { mustRun, needPrograms, runProgram } from '../support/programs.ts'
import { SeededRandom } from '../support/seeded.ts'

const size = 32 * MiB
const image = new SeededRandom(5).bytes(size)

/** GnuTLS's words for one version alone. */
const only = { '1.2': 'NORMAL:-VERS-ALL:+VERS-TLS1.2', '1.3': 'NORMAL:-VERS-ALL:+VERS-TLS1.3' }

/** The ways to prove who one is, each with the parameters of a URI and qemu's object. */
const proofs = ['certificates', 'keys'] as const

/** A target that demands TLS for all that it serves, and the files of its clients. */
class Served {
  readonly shop = new Workshop()
  readonly authority: TestAuthority
  target!: DstProcess

  constructor() {
    this.authority = makePki(this.shop.folder)
    makeKeys(this.at('keys.psk'), 'alice', 'bob')
  }

  at(...parts: readonly string[]): string {
    return join(this.shop.folder, ...parts)
  }

  async start(): Promise<void> {
    const tls = { tls: 'required' }
    const unix = (name: string, credentials: string, protocol = 'nbd') => ({
      protocol,
      address: `unix:${name}.sock`,
      credentials,
      ...tls,
    })
    this.target = await this.shop.serve('target', {
      credentials: {
        certificates: { certificates: 'pki', minVersion: '1.2' },
        keys: { psk: 'keys.psk', minVersion: '1.2' },
      },
      management: { address: 'unix:dst.sock' },
      listeners: [
        { protocol: 'nbd', address: '127.0.0.1:0', credentials: 'certificates' },
        { protocol: 'nbd', address: '127.0.0.1:0', credentials: 'keys' },
        unix('certificates', 'certificates'),
        unix('keys', 'keys'),
        unix('dst-certificates', 'certificates', 'dst'),
        unix('dst-keys', 'keys', 'dst'),
        { protocol: 'nbd', address: 'unix:open.sock' },
      ],
      devices: { disk: { type: 'memory', size } },
      exports: { disk: { device: 'disk' } },
    })
  }

  /** A URI with all that a client needs. */
  uri(proof: 'certificates' | 'keys', protocol: 'nbds' | 'dsts' = 'nbds'): string {
    const socket = protocol === 'dsts' ? `dst-${proof}` : proof
    const user = proof === 'keys' ? 'alice@' : ''
    const files =
      proof === 'keys'
        ? `tls-psk-file=${this.at('keys.psk')}`
        : `tls-certificates=${this.at('pki')}&tls-hostname=localhost`
    return `${protocol}+unix://${user}/disk?socket=${this.at(`${socket}.sock`)}&${files}`
  }

  /** The address of a listener on TCP. */
  port(proof: 'certificates' | 'keys'): string {
    const uris = [...this.target.stdout.matchAll(/nbds:\/\/127\.0\.0\.1:(\d+)\/disk/g)]
    return uris[proof === 'certificates' ? 0 : 1]![1]!
  }

  /** The words for qemu's programs: an object with the proof, and what uses it. */
  qemu(proof: 'certificates' | 'keys', version: '1.2' | '1.3', folder = 'pki'): string[] {
    const common = `id=t,endpoint=client,priority=${only[version]}`
    const kind =
      proof === 'keys'
        ? `tls-creds-psk,dir=${this.at('qemu')},username=alice`
        : `tls-creds-x509,dir=${this.at(folder)},verify-peer=on`
    return ['--object', `${kind},${common}`, '--image-opts', this.qemuImage(proof)]
  }

  qemuImage(proof: 'certificates' | 'keys'): string {
    const where = `server.type=inet,server.host=127.0.0.1,server.port=${this.port(proof)}`
    const name = proof === 'keys' ? '' : ',tls-hostname=localhost'
    return `driver=nbd,${where},export=disk,tls-creds=t${name}`
  }
}

describe('programs as clients of a target that demands TLS', () => {
  let served: Served

  before(async () => {
    served = new Served()
    await mustRun('mkdir', [served.at('qemu')])
    await mustRun('cp', [served.at('keys.psk'), served.at('qemu', 'keys.psk')])
    writeFileSync(served.at('image'), image)
    await served.start()
  })

  after(() => served.shop.close())

  for (const proof of proofs) {
    it(`nbdinfo and nbdcopy, with ${proof}`, async function () {
      needPrograms(this, 'nbdinfo', 'nbdcopy')
      const uri = served.uri(proof)
      expect(await mustRun('nbdinfo', [uri])).to.contain('newstyle-fixed with TLS')
      expect(await mustRun('nbdinfo', ['--list', uri])).to.contain('export="disk"')
      await mustRun('nbdcopy', [served.at('image'), uri])
      await mustRun('nbdcopy', ['--flush', uri, served.at('back')])
      expect(readFileSync(served.at('back')).equals(image)).to.equal(true)
    })

    for (const version of ['1.3', '1.2'] as const)
      it(`qemu-img and qemu-io, with ${proof} and TLS ${version}`, async function () {
        needPrograms(this, 'qemu-img', 'qemu-io')
        const words = served.qemu(proof, version)
        expect(await mustRun('qemu-img', ['info', ...words])).to.contain('32 MiB')
        const commands = ['write -P 7 1M 3M', 'flush', 'read -P 7 1M 3M', 'write -z 8M 1M']
        const said = await mustRun('qemu-io', [
          ...words,
          ...commands.flatMap((command) => ['-c', command]),
        ])
        expect(said).to.contain('read 3145728/3145728').and.not.contain('failed')
      })
  }

  it('fio, with certificates where libnbd looks for them', async function () {
    needPrograms(this, 'fio')
    const { stdout } = await runProgram('fio', ['--enghelp'])
    if (!/\bnbd\b/.test(stdout)) {
      console.log('      skipped: this fio has no nbd engine')
      this.skip()
    }
    // For root libnbd looks in /etc, and for another user the folder of the test is closed.
    const home = mkdtempSync(join(tmpdir(), 'dst-home-'))
    served.shop.later(() => rmSync(home, { recursive: true }))
    await mustRun('mkdir', ['-p', join(home, '.pki')])
    await mustRun('cp', ['-r', served.at('pki'), join(home, '.pki', 'libnbd')])
    const uri = `nbds://localhost:${served.port('certificates')}/disk`
    const words = [
      ...['fio', '--name=tls', '--ioengine=nbd', `--uri=${uri}`, '--rw=randwrite', '--bs=64k'],
      ...['--iodepth=16', '--size=8M', '--verify=crc32c', '--do_verify=1'],
    ]
    const nobody = ['setpriv', '--reuid=65534', '--clear-groups']
    const isRoot = process.getuid?.() === 0
    if (isRoot) await mustRun('chown', ['-R', '65534', home])
    const [program, ...rest] = [...(isRoot ? nobody : []), ...words]
    await mustRun(program!, rest, { cwd: home, env: { ...process.env, HOME: home } })
  })

  it('tells a program without TLS nothing', async function () {
    needPrograms(this, 'nbdinfo')
    const socket = served.at('certificates.sock')
    for (const words of [[], ['--list']]) {
      const { code, stdout } = await runProgram('nbdinfo', [
        ...words,
        `nbd+unix:///disk?socket=${socket}`,
      ])
      expect(code).not.to.equal(0)
      expect(stdout).not.to.contain('export=')
    }
    const other = await runProgram('nbdinfo', [`nbd+unix:///disk?socket=${served.at('open.sock')}`])
    expect(other.code).to.equal(0)
  })

  it('refuses what does not prove a client, in the same words', async function () {
    needPrograms(this, 'nbdinfo')
    const { authority } = served
    authority.issue(served.at('old'), { commonName: 'o', purpose: 'client', days: -1 })
    writeFileSync(served.at('wrong.psk'), `alice:${'00'.repeat(32)}\neve:${'11'.repeat(32)}\n`)
    const socket = served.at('certificates.sock')
    const old = `nbds+unix:///disk?socket=${socket}&tls-certificates=${served.at('old')}`
    expect((await runProgram('nbdinfo', [`${old}&tls-hostname=localhost`])).code).not.to.equal(0)
    const outcomes = await Promise.all(
      ['alice', 'eve'].map((user) =>
        runProgram('nbdinfo', [
          `nbds+unix://${user}@/disk?socket=${served.at('keys.sock')}` +
            `&tls-psk-file=${served.at('wrong.psk')}`,
        ]),
      ),
    )
    const [wrong, unknown] = outcomes.map(({ code, stderr }) => ({
      code,
      stderr: stderr.replaceAll('eve', 'alice'),
    }))
    expect(wrong!.code).not.to.equal(0)
    expect(unknown).to.deep.equal(wrong)
  })

  for (const protocol of ['nbds', 'dsts'] as const)
    for (const proof of proofs)
      it(`a bridge over ${protocol} with ${proof}, below plain clients`, async function () {
        needPrograms(this, 'nbdcopy')
        const { shop } = served
        const uri = served.uri(proof, protocol)
        const listed = await dst(['list', uri], shop.folder)
        expect(listed.stdout).to.contain('/disk')
        await shop.run(['bridge', uri, '--listen', `unix:${protocol}-${proof}.bridge`])
        const local = `nbd+unix:///disk?socket=${served.at(`${protocol}-${proof}.bridge`)}`
        await mustRun('nbdcopy', [served.at('image'), local])
        await mustRun('nbdcopy', ['--flush', local, served.at('back')])
        expect(readFileSync(served.at('back')).equals(image)).to.equal(true)
        const { stdout } = await dst(['status', '--management', 'unix:dst.sock'], shop.folder)
        expect(stdout).to.contain(proof === 'keys' ? 'psk:alice' : 'x509:dst:head/h1')
      })

  it('a stranger, or a server without TLS, is refused by our own clients', async () => {
    const { shop } = served
    const files = `socket=${served.at('open.sock')}&tls-certificates=${served.at('pki')}`
    const plain = `nbds+unix:///disk?${files}`
    const { code, stderr } = await dst(['list', plain], shop.folder)
    expect(code).to.equal(1)
    expect(stderr).to.contain('the server has no TLS')
    const other = await dst(
      ['list', served.uri('keys', 'dsts').replace('alice', 'bob')],
      shop.folder,
    )
    expect(other.code).to.equal(0)
    const wrong = served.uri('certificates').replace('tls-hostname=localhost', 'tls-hostname=x')
    expect((await dst(['list', wrong], shop.folder)).stderr).to.contain('ALTNAME')
  })
})
