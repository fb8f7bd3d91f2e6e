import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { makeKeys } from '../support/authority.ts'
import { freePorts } from '../support/ports.ts'
import { dst, Workshop } from '../support/process.ts'
import { mustRun, needPrograms } from '../support/programs.ts'
import { SeededRandom } from '../support/seeded.ts'

const size = 16 * MiB
const image = new SeededRandom(8).bytes(size)

/** Two targets that let one head alone claim, a head, and others who would like to be it. */
describe('a mirror of two remotes under TLS', () => {
  let shop: Workshop
  before(function () {
    needPrograms(this, 'openssl', 'nbdcopy')
    shop = new Workshop()
  })
  after(() => shop.close())

  const at = (...parts: readonly string[]): string => join(shop.folder, ...parts)

  /** Serves a mirror of both targets, as a client with some certificates. */
  function serveHead(name: string, pki: string, ports: readonly number[]) {
    const leg = (port: number) => ({
      ...{ type: 'remote', uri: `dsts://127.0.0.1:${port}/disk`, credentials: 'own' },
    })
    return shop.serve(name, {
      management: { address: `unix:${name}.sock` },
      credentials: { own: { certificates: pki } },
      listeners: [{ protocol: 'nbd', address: `unix:${name}-nbd.sock` }],
      devices: { m: { type: 'mirror', legs: { a: leg(ports[0]!), b: leg(ports[1]!) } } },
      exports: { m: { device: 'm' } },
    })
  }

  async function statusOf(name: string): Promise<{ state: string; text: string }> {
    const words = ['status', '--json', '--management', `unix:${name}.sock`]
    const { stdout } = await dst(words, shop.folder)
    return { state: (JSON.parse(stdout) as { state: string }).state, text: stdout }
  }

  it("is the head's whose certificate the rules name, and of nobody else", async () => {
    const tls = async (...words: readonly string[]): Promise<void> => {
      expect((await dst(['tls', ...words], shop.folder)).code).to.equal(0)
    }
    await tls('init', 'pki', '--host', '127.0.0.1', '--client', 'head')
    await tls('client', 'pki', 'other', 'other-pki')
    const ports = await freePorts(2)
    for (const [n, port] of ports.entries())
      await shop.serve(`t${n}`, {
        credentials: { own: { certificates: 'pki' } },
        listeners: [{ protocol: 'dst', address: `127.0.0.1:${port}`, credentials: 'own' }],
        devices: { disk: { type: 'file', path: `disk${n}`, size: '18M', create: true } },
        exports: {
          disk: {
            device: 'disk',
            allow: [
              { certificate: { commonName: 'head' }, may: ['read', 'write', 'claim'] },
              { certificate: { commonName: 'other' }, may: ['read', 'write'] },
            ],
          },
        },
      })
    await serveHead('h', 'pki', ports)
    writeFileSync(at('image'), image)
    const uri = `nbd+unix:///m?socket=${at('h-nbd.sock')}`
    await mustRun('nbdcopy', ['--flush', at('image'), uri])

    // Another head, which may write but not claim, gets no leg, and the first one keeps its legs.
    await serveHead('o', 'other-pki', ports)
    while (!/may not claim|rules/.test((await statusOf('o')).text)) await sleep(100)
    expect((await statusOf('o')).state).to.equal('failed')
    expect((await statusOf('h')).state).to.be.oneOf(['healthy', 'syncing'])
    await mustRun('nbdcopy', ['--flush', uri, at('back')])
    expect(readFileSync(at('back')).subarray(0, size).equals(image)).to.equal(true)

    // A stranger with a certificate of its own authority, and one without any.
    await tls('init', 'foreign', '--client', 'head')
    const list = (parameters: string) =>
      dst(['list', `dsts://127.0.0.1:${ports[0]}?${parameters}`], shop.folder)
    expect((await list('tls-certificates=foreign&tls-verify-peer=0')).code).to.equal(1)
    makeKeys(at('keys.psk'), 'head')
    expect((await list('tls-psk-file=keys.psk')).code).to.equal(1)
    expect((await dst(['list', `dst://127.0.0.1:${ports[0]}`], shop.folder)).code).to.equal(1)
  })
})
