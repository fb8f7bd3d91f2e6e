import { expect } from 'chai'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { MiB } from '../../src/base/size.ts'
import { fioPass } from '../support/fio.ts'
import { freePorts } from '../support/ports.ts'
import { Workshop } from '../support/process.ts'
import { mustRun, needPrograms } from '../support/programs.ts'
import { SeededRandom } from '../support/seeded.ts'

/**
 * Real clients through both protocols: the tree of the example is served over DST/1 and NBD by one
 * process, and bridged back to NBD by another, on a unix socket and on TCP.
 */
describe('real clients of a served mirror', function () {
  let workshop: Workshop
  const uris: Record<string, string> = {}

  before(async function () {
    workshop = new Workshop()
    needPrograms(this, 'nbdinfo', 'nbdcopy', 'qemu-img', 'qemu-io', 'fio')
    const [dstPort = 0, nbdPort = 0, bridgePort = 0] = await freePorts(3)
    const file = (name: string, size: string) => ({ type: 'file', path: name, size, create: true })
    const right = { type: 'linear', parts: [file('right-0', '12M'), file('right-1', '12M')] }
    await workshop.serve('target', {
      listeners: [
        { protocol: 'dst', address: `127.0.0.1:${dstPort}` },
        { protocol: 'nbd', address: `127.0.0.1:${nbdPort}` },
        { protocol: 'nbd', address: 'unix:nbd.sock' },
      ],
      devices: { home: { type: 'mirror', legs: { left: file('left', '24M'), right } } },
      exports: { home: { device: 'home' } },
    })
    const listen = [`unix:${join(workshop.folder, 'bridge.sock')}`, `127.0.0.1:${bridgePort}`]
    const options = listen.flatMap((address) => ['--listen', address])
    await workshop.run(['bridge', `dst://127.0.0.1:${dstPort}/home`, ...options])
    const socket = (name: string): string =>
      `nbd+unix:///home?socket=${join(workshop.folder, name)}`
    uris['NBD over TCP'] = `nbd://127.0.0.1:${nbdPort}/home`
    uris['NBD over a unix socket'] = socket('nbd.sock')
    uris['DST/1, bridged to TCP'] = `nbd://127.0.0.1:${bridgePort}/home`
    uris['DST/1, bridged to a unix socket'] = socket('bridge.sock')
  })
  after(() => workshop.close())

  const ways = [
    'NBD over TCP',
    'NBD over a unix socket',
    'DST/1, bridged to TCP',
    'DST/1, bridged to a unix socket',
  ]
  for (const [at, way] of ways.entries())
    describe(way, () => {
      const path = (name: string): string => join(workshop.folder, name)
      const length = 16 * MiB

      /** A file of random bytes, another one for each way and name. */
      function bytesFile(name: string): string {
        const bytes = new SeededRandom(100 * at + name.length).bytes(length)
        writeFileSync(path(name), bytes)
        return path(name)
      }

      it('nbdinfo tells what it is', async () => {
        const said = await mustRun('nbdinfo', ['--json', uris[way]!])
        const [found] = (JSON.parse(said) as { exports: Record<string, unknown>[] }).exports
        expect(found!['can_flush']).to.equal(true)
        expect(found!['can_fua']).to.equal(true)
        expect(found!['is_read_only']).to.equal(false)
        expect(await mustRun('nbdinfo', ['--list', uris[way]!])).to.include('export="home"')
        await mustRun('nbdinfo', ['--map', uris[way]!])
      })

      it('nbdcopy copies in and out', async () => {
        const input = bytesFile('in')
        await mustRun('nbdcopy', ['--flush', input, uris[way]!])
        await mustRun('nbdcopy', [uris[way]!, path('out')])
        expect(readFileSync(path('out')).subarray(0, length).equals(readFileSync(input))).to.equal(
          true,
        )
      })

      it('qemu-img converts into it and finds no difference', async () => {
        const input = bytesFile('image')
        await mustRun('qemu-img', [...'convert -n -f raw -O raw'.split(' '), input, uris[way]!])
        const said = await mustRun('qemu-img', ['compare', '-f', 'raw', input, uris[way]!])
        expect(said).to.include('Images are identical')
      })

      it('qemu-io writes patterns, zeroes and trims, and verifies', async () => {
        const words = [
          'write -P 17 1M 3M',
          'write -z 2M 1M',
          'read -P 17 1M 1M',
          'read -P 0 2M 1M',
          'discard 1M 1M',
          'write -f -P 18 5000k 12k',
          'flush',
          'read -P 18 5000k 12k',
        ]
        const options = words.flatMap((word) => ['-c', word])
        const said = await mustRun('qemu-io', ['-f', 'raw', ...options, uris[way]!])
        expect(said).not.to.include('failed')
      })

      it('fio writes and verifies', async () => {
        const options = { uri: uris[way]!, folder: workshop.folder, seed: at, size: '8m' }
        const { code, stdout } = await fioPass({ ...options, rate: 100_000, timeout: 60_000 })
        expect(code, stdout).to.equal(0)
      })
    })
})
