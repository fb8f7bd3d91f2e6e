import { expect } from 'chai'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeKeys } from '../support/authority.ts'
import { below, between, soakRounds } from '../support/chaos.ts'
import { fioPass } from '../support/fio.ts'
import { freePorts } from '../support/ports.ts'
import { Workshop, type DstProcess } from '../support/process.ts'
import { needPrograms, runProgram } from '../support/programs.ts'
import { exportSize, legsReach } from '../support/volume.ts'
import { SeededRandom } from '../support/seeded.ts'

const management = 'unix:head.sock'
/** After so many rounds every leg must come back in sync, before the next one dies. */
const roundsBetweenRests = 10

/**
 * A mirror of one leg of each kind: a file of the head, a remote, and an export of an NBD server.
 * Each round kills the head, a server or two of them with SIGKILL and starts them again, while fio
 * writes and verifies through a bridge that holds requests. A server of NBD that restarts may have
 * lost what it had not flushed, and the mirror must treat it so.
 */
const ways = { 'in clear': '', 'under TLS': 's' } as const

for (const [way, s] of Object.entries(ways))
  describe(`a mirror of three kinds of legs, killed again and again, ${way}`, function () {
    // With `s`, the letter of schemes under TLS, all between the processes is sealed.
    this.timeout((soakRounds * 6 + 400) * 1000)
    const credentials = s === '' ? {} : { credentials: 'keys' }
    const common = s === '' ? {} : { credentials: { keys: { psk: 'keys.psk' } } }

    let workshop: Workshop
    before(function () {
      needPrograms(this, 'fio', 'nbdinfo', 'cmp')
    })
    beforeEach(() => {
      workshop = new Workshop()
      makeKeys(join(workshop.folder, 'keys.psk'), 'head')
    })
    afterEach(async function () {
      if (this.currentTest?.isFailed() === true) console.log(workshop.logs())
      await workshop.close()
    })

    async function serveStore(protocol: 'dst' | 'nbd', port: number): Promise<DstProcess> {
      return workshop.serve(protocol, {
        ...common,
        listeners: [{ protocol, address: `127.0.0.1:${port}`, ...credentials }],
        devices: { disk: { type: 'file', path: `${protocol}.img`, size: '24M', create: true } },
        exports: { disk: { device: 'disk' } },
      })
    }

    async function serveHead(port: number, dstPort: number, nbdPort: number): Promise<DstProcess> {
      const legs = {
        file: { type: 'file', path: 'file.img', size: '24M', create: true },
        dst: {
          ...{ type: 'remote', uri: `dst${s}://127.0.0.1:${dstPort}/disk`, hold: '1s' },
          ...credentials,
        },
        // Who is killed writes nothing more once the kernel has closed its connections.
        nbd: {
          ...{ type: 'nbd', uri: `nbd${s}://127.0.0.1:${nbdPort}/disk`, quiesce: '100ms' },
          ...credentials,
        },
      }
      return workshop.serve('head', {
        ...common,
        listeners: [{ protocol: 'dst', address: `127.0.0.1:${port}`, ...credentials }],
        management: { address: management },
        devices: { home: { type: 'mirror', legs, legRetry: '100ms', legRetryMax: '500ms' } },
        exports: { home: { device: 'home' } },
      })
    }

    it('loses nothing that was acknowledged, and its legs end equal', async () => {
      const [headPort = 0, dstPort = 0, nbdPort = 0] = await freePorts(3)
      const dst = await serveStore('dst', dstPort)
      const nbd = await serveStore('nbd', nbdPort)
      const head = await serveHead(headPort, dstPort, nbdPort)
      const rest = () => legsReach(workshop.folder, management, ['in-sync'], 120_000)
      await rest()
      const socket = join(workshop.folder, 'bridge.sock')
      const keys = s === '' ? '' : `?tls-psk-file=${join(workshop.folder, 'keys.psk')}`
      const far = `dst${s}://127.0.0.1:${headPort}/home${keys}`
      await workshop.run(['bridge', far, '--hold', '120s', '--listen', `unix:${socket}`])
      const uri = `nbd+unix:///home?socket=${socket}`

      let over = false
      const verify = async (): Promise<void> => {
        const { folder } = workshop
        for (let seed = 1; !over; seed++) {
          const options = { uri, folder, seed, size: '8m', rate: 1500, timeout: 120_000 }
          const { code, stdout, stderr } = await fioPass(options)
          if (code !== 0)
            throw new Error(`fio, pass ${seed}: ${code ?? 'killed'}\n${stdout}${stderr}`)
        }
      }
      const failed = { error: null as unknown }
      const work = verify().catch((error: unknown) => (failed.error = error))
      const victims = [[head], [dst], [nbd], [head, dst], [head, nbd], [dst, nbd]]
      const random = new SeededRandom(7)
      for (let round = 1; round <= soakRounds && failed.error === null; round++) {
        await killAndRestart(victims[below(random, victims.length)]!, random)
        if (round % roundsBetweenRests === 0) await rest()
      }
      over = true
      await work
      if (failed.error instanceof Error) throw failed.error
      await rest()
      const size = await exportSize(uri)
      expect(await head.stop(), head.stderr).to.equal(0)
      for (const other of ['dst', 'nbd']) {
        const files = ['file.img', `${other}.img`].map((name) => join(workshop.folder, name))
        const { code, stdout } = await runProgram('cmp', ['-n', `${size}`, ...files])
        expect(code, stdout).to.equal(0)
      }
    })
  })

async function killAndRestart(
  processes: readonly DstProcess[],
  random: SeededRandom,
): Promise<void> {
  await sleep(between(random, 100, 700))
  await Promise.all(processes.map((process) => process.stop('SIGKILL')))
  await sleep(between(random, 0, 400))
  await Promise.all(processes.map((process) => process.start()))
}
