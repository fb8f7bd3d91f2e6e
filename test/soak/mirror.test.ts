import { expect } from 'chai'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { below, between, soakSeconds, troubled, type Trouble } from '../support/chaos.ts'
import { fioPasses } from '../support/fio.ts'
import { freePorts } from '../support/ports.ts'
import { Workshop, type DstProcess } from '../support/process.ts'
import { needPrograms, runProgram } from '../support/programs.ts'
import { exportSize, legsReach } from '../support/volume.ts'

const names = ['a', 'b', 'c']

/**
 * fio writes and verifies, through a bridge, a mirror of three remotes, while their targets and the
 * head are killed at random. Nothing may be wrong at the client, and in the end the legs are equal,
 * byte for byte.
 */
describe('a mirror of remotes whose targets and head are killed', function () {
  this.timeout((soakSeconds + 400) * 1000)

  let workshop: Workshop
  before(function () {
    needPrograms(this, 'fio', 'nbdinfo', 'cmp')
  })
  beforeEach(() => (workshop = new Workshop()))
  afterEach(async function () {
    if (this.currentTest?.isFailed() === true) console.log(workshop.logs())
    await workshop.close()
  })

  async function serveStores(ports: readonly number[]): Promise<DstProcess[]> {
    const stores = names.map((name, at) =>
      workshop.serve(name, {
        listeners: [{ protocol: 'dst', address: `127.0.0.1:${ports[at]!}` }],
        devices: { disk: { type: 'file', path: `${name}.img`, size: '24M', create: true } },
        exports: { disk: { device: 'disk' } },
      }),
    )
    return Promise.all(stores)
  }

  it('keeps its client free of errors and its legs equal', async () => {
    const [headPort = 0, ...storePorts] = await freePorts(4)
    const stores = await serveStores(storePorts)
    const remote = (port: number) => ({
      type: 'remote',
      uri: `dst://127.0.0.1:${port}/disk`,
      hold: '1s',
    })
    const legs = Object.fromEntries(names.map((name, at) => [name, remote(storePorts[at]!)]))
    const head = await workshop.serve('head', {
      listeners: [{ protocol: 'dst', address: `127.0.0.1:${headPort}` }],
      management: { address: 'unix:head.sock' },
      devices: { home: { type: 'mirror', legs, legRetry: '200ms', legRetryMax: '1s' } },
      exports: { home: { device: 'home' } },
    })
    await legsReach(workshop.folder, 'unix:head.sock', ['in-sync'], 120_000)
    const socket = join(workshop.folder, 'bridge.sock')
    const far = `dst://127.0.0.1:${headPort}/home`
    await workshop.run(['bridge', far, '--hold', '120s', '--listen', `unix:${socket}`])
    const uri = `nbd+unix:///home?socket=${socket}`
    const size = await exportSize(uri)

    const work = fioPasses({ uri, folder: workshop.folder, size: '16m', rate: 1500 }, soakSeconds)
    const troubles = [killedTarget(stores), killedHead(head), killedTogether(stores)]
    const counts = await troubled(troubles, 3, work)
    expect(Object.keys(counts)).to.have.length(troubles.length)

    await legsReach(workshop.folder, 'unix:head.sock', ['in-sync'], 120_000)
    expect(await head.stop(), head.stderr).to.equal(0)
    for (const other of names.slice(1)) {
      const files = [names[0], other].map((name) => join(workshop.folder, `${name}.img`))
      const { code, stdout } = await runProgram('cmp', ['-n', `${size}`, ...files])
      expect(code, stdout).to.equal(0)
    }
  })
})

function killedTarget(stores: readonly DstProcess[]): Trouble {
  return {
    name: 'a target killed',
    run: async (random) => {
      const store = stores[below(random, stores.length)]!
      await store.stop('SIGKILL')
      await sleep(between(random, 0, 3000))
      await store.start()
    },
  }
}

function killedHead(head: DstProcess): Trouble {
  return {
    name: 'the head killed',
    run: async (random) => {
      await head.stop('SIGKILL')
      await sleep(between(random, 0, 500))
      await head.start()
    },
  }
}

/** Two of three at once: the third carries the volume alone. */
function killedTogether(stores: readonly DstProcess[]): Trouble {
  return {
    name: 'two targets killed',
    run: async (random) => {
      const spared = below(random, stores.length)
      const victims = stores.filter((_, at) => at !== spared)
      await Promise.all(victims.map((store) => store.stop('SIGKILL')))
      for (const store of victims) {
        await sleep(between(random, 0, 2000))
        await store.start()
      }
    },
  }
}
