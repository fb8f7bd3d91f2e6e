import { expect } from 'chai'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { between, soakSeconds, troubled, type Trouble } from '../support/chaos.ts'
import { fioPasses } from '../support/fio.ts'
import { freePorts } from '../support/ports.ts'
import { Workshop, type DstProcess } from '../support/process.ts'
import { needPrograms } from '../support/programs.ts'
import { Proxy } from '../support/proxy.ts'

/**
 * fio writes and verifies, through a bridge, a linear of a local file and a remote. The remote's
 * target dies and returns, and the network between them does its worst. The client may wait; it may
 * not see an error or a wrong block.
 */
describe('a linear over a remote that goes away', function () {
  this.timeout((soakSeconds + 400) * 1000)

  let workshop: Workshop
  before(function () {
    needPrograms(this, 'fio')
  })
  beforeEach(() => (workshop = new Workshop()))
  afterEach(async function () {
    if (this.currentTest?.isFailed() === true) console.log(workshop.logs())
    await workshop.close()
  })

  /** Store, proxy, head, bridge. Gives what can go wrong and the URI to use. */
  async function build(store: object) {
    const [storePort = 0, headPort = 0] = await freePorts(2)
    const config = (port: number, device: object) => ({
      listeners: [{ protocol: 'dst', address: `127.0.0.1:${port}` }],
      devices: { disk: device },
      exports: { disk: { device: 'disk' } },
      limits: {},
    })
    const target = await workshop.serve('store', config(storePort, store))
    const proxy = await Proxy.start({ port: storePort })
    workshop.later(() => proxy.close())
    const near = { type: 'file', path: 'near.img', size: '16M', create: true }
    const far = {
      type: 'remote',
      uri: `dst://127.0.0.1:${proxy.port}/disk`,
      hold: '120s',
      // Short enough that what is half-open is found out many times in a short test.
      connectTimeout: '2s',
      pingInterval: '500ms',
      pingTimeout: '1500ms',
    }
    await workshop.serve('head', config(headPort, { type: 'linear', parts: [near, far] }))
    const socket = join(workshop.folder, 'bridge.sock')
    // The head answers once what was under way at the remote has ended: as long as that is held.
    const head = `dst://127.0.0.1:${headPort}/disk`
    await workshop.run(['bridge', head, '--listen', `unix:${socket}`, '--hold', '120s'])
    return { target, proxy, uri: `nbd+unix:///disk?socket=${socket}` }
  }

  it('gives its client no error and no wrong block', async () => {
    const store = { type: 'file', path: 'far.img', size: '32M', create: true }
    const { target, proxy, uri } = await build(store)
    const troubles = [killed(target), ...cruelties(proxy)]
    const work = fioPasses({ uri, folder: workshop.folder, size: '48m', rate: 3000 }, soakSeconds)
    const counts = await troubled(troubles, 1, work)
    expect(Object.keys(counts)).to.have.members(troubles.map(({ name }) => name))
  })
})

function killed(target: DstProcess): Trouble {
  return {
    name: 'killed',
    run: async (random) => {
      await target.stop('SIGKILL')
      await sleep(between(random, 0, 1000))
      await target.start()
    },
  }
}

function atOnce(name: string, act: () => void): Trouble {
  return {
    name,
    run: () => {
      act()
      return Promise.resolve()
    },
  }
}

function cruelties(proxy: Proxy): Trouble[] {
  return [
    atOnce('cut', () => proxy.cut()),
    atOnce('half-open', () => proxy.halfOpen()),
    {
      name: 'frozen',
      run: async (random) => {
        proxy.freeze()
        await sleep(between(random, 200, 4000))
        proxy.thaw()
      },
    },
    {
      name: 'frozen and cut',
      run: async (random) => {
        proxy.freeze()
        await sleep(between(random, 200, 2000))
        proxy.cut()
        proxy.thaw()
      },
    },
  ]
}
