import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { makeKeys, makePki } from '../support/authority.ts'
import { dst, Workshop } from '../support/process.ts'
import { mustRun, needPrograms } from '../support/programs.ts'
import { SeededRandom } from '../support/seeded.ts'

const size = 8 * MiB
const image = new SeededRandom(6).bytes(size)

/** Other people's servers, which demand TLS, and our clients. */
describe('our clients with servers that demand TLS', () => {
  let shop: Workshop
  beforeEach(() => {
    shop = new Workshop()
    makePki(shop.folder)
    makeKeys(at('keys.psk'), 'alice', 'bob')
    writeFileSync(at('image'), image)
  })
  afterEach(() => shop.close())

  const at = (...parts: readonly string[]): string => join(shop.folder, ...parts)

  async function start(name: string, words: readonly string[]): Promise<ChildProcess> {
    const child = spawn(name, words, { cwd: shop.folder, stdio: ['ignore', 'ignore', 'pipe'] })
    const ended = once(child, 'exit')
    shop.later(async () => {
      child.kill('SIGKILL')
      await ended
    })
    let said = ''
    child.stderr.on('data', (text: Buffer) => (said += text.toString()))
    for (;;) {
      if (child.exitCode !== null) throw new Error(`${name} ended: ${said}`)
      if (existsSync(at('nbd.sock')) && (await listens())) return child
      await sleep(20)
    }
  }

  function listens(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect({ path: at('nbd.sock') })
      socket.on('error', () => resolve(false)).on('connect', () => resolve(true))
      socket.on('connect', () => socket.destroy())
    })
  }

  function uri(user: string, parameters: string): string {
    return `nbds+unix://${user}/?socket=${at('nbd.sock')}&${parameters}`
  }

  const keys = (): string => uri('alice@', `tls-psk-file=${at('keys.psk')}`)
  const certificates = (more = '&tls-hostname=localhost'): string =>
    uri('', `tls-certificates=${at('pki')}${more}`)

  /** Copies an image in and out through a bridge. */
  async function copyBothWays(to: string): Promise<void> {
    await shop.run(['bridge', to, '--listen', 'unix:bridge.sock', '--name', 'x'])
    const local = `nbd+unix:///x?socket=${at('bridge.sock')}`
    await mustRun('nbdcopy', ['--flush', at('image'), local])
    await mustRun('nbdcopy', [local, at('back')])
    expect(readFileSync(at('back')).equals(image)).to.equal(true)
  }

  async function expectRefused(to: string, why: RegExp): Promise<void> {
    const { code, stderr } = await dst(['list', to], shop.folder)
    expect(code, to).to.equal(1)
    expect(stderr).to.match(why)
  }

  const nbdkit = ['-f', '-U', 'nbd.sock', '--tls=require']

  it('nbdkit with certificates of both sides', async function () {
    needPrograms(this, 'nbdkit', 'nbdcopy')
    const files = [`--tls-certificates=${at('pki')}`, '--tls-verify-peer']
    await start('nbdkit', [...nbdkit, ...files, 'memory', '8M'])
    await expectRefused(certificates('&tls-hostname=other'), /ALTNAME/)
    await expectRefused(`nbd+unix:///?socket=${at('nbd.sock')}`, /nbds:\/\/ begins it/)
    expect(
      (await dst(['list', certificates('&tls-hostname=other&tls-verify-peer=0')], shop.folder))
        .code,
    ).to.equal(0)
    await copyBothWays(certificates())
  })

  it('nbdkit with keys', async function () {
    needPrograms(this, 'nbdkit', 'nbdcopy')
    await start('nbdkit', [...nbdkit, `--tls-psk=${at('keys.psk')}`, 'memory', '8M'])
    const before = readFileSync(at('keys.psk'), 'utf8')
    writeFileSync(at('wrong.psk'), `alice:${'00'.repeat(32)}\n`, { mode: 0o600 })
    await expectRefused(uri('alice@', `tls-psk-file=${at('wrong.psk')}`), /TLS: /)
    await expectRefused(uri('', `tls-psk-file=${at('keys.psk')}`), /several: name one/)
    expect(readFileSync(at('keys.psk'), 'utf8')).to.equal(before)
    await copyBothWays(keys())
  })

  for (const proof of ['certificates', 'keys'] as const)
    it(`qemu-nbd with ${proof}`, async function () {
      needPrograms(this, 'qemu-nbd', 'nbdcopy')
      writeFileSync(at('disk'), Buffer.alloc(size))
      const object =
        proof === 'keys'
          ? `tls-creds-psk,id=t,endpoint=server,dir=${shop.folder}`
          : `tls-creds-x509,id=t,endpoint=server,dir=${at('pki')},verify-peer=on`
      await start('qemu-nbd', [
        ...['--object', object, '--tls-creds', 't', '-k', at('nbd.sock')],
        ...['-f', 'raw', '--persistent', '-x', '', at('disk')],
      ])
      await copyBothWays(proof === 'keys' ? keys() : certificates())
    })

  it('nobody who takes TLS away on the way', async function () {
    needPrograms(this, 'nbdkit')
    // A server without TLS is what a client sees behind somebody who answers in the place of one.
    await start('nbdkit', ['-f', '-U', 'nbd.sock', 'memory', '8M'])
    await expectRefused(certificates(), /the server has no TLS, without which it is not used/)
  })
})
