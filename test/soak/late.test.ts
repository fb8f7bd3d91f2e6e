import { expect } from 'chai'
import { setTimeout as sleep } from 'node:timers/promises'
import { KiB } from '../../src/base/size.ts'
import type { Device } from '../../src/device/device.ts'
import { between, soakSeconds, troubled, type Trouble } from '../support/chaos.ts'
import { read, write } from '../support/io.ts'
import { freePorts } from '../support/ports.ts'
import { Workshop } from '../support/process.ts'
import { Proxy } from '../support/proxy.ts'
import { remote } from '../wire/rig.ts'
import { SeededRandom } from '../support/seeded.ts'

const blockBytes = 4 * KiB
const blocks = 32

/**
 * Few blocks, each overwritten all the time, over a network that resets the client's side and
 * brings what was on its way long after, to a disk that is slow to carry it out. Whatever a write
 * replaced must never come back.
 */
describe('writes of a connection that was given up', function () {
  this.timeout((soakSeconds + 300) * 1000)

  let workshop: Workshop
  beforeEach(() => (workshop = new Workshop()))
  afterEach(async function () {
    if (this.currentTest?.isFailed() === true) console.log(workshop.logs())
    await workshop.close()
  })

  async function build(): Promise<{ proxy: Proxy; device: Device }> {
    const [port = 0] = await freePorts(1)
    const memory = { type: 'memory', size: blocks * blockBytes }
    await workshop.serve('store', {
      listeners: [{ protocol: 'dst', address: `127.0.0.1:${port}` }],
      devices: {
        disk: { type: 'delay', device: memory, operations: ['write'], min: '1ms', max: '30ms' },
      },
      exports: { disk: { device: 'disk' } },
    })
    const proxy = await Proxy.start({ port })
    workshop.later(() => proxy.close())
    const address = { kind: 'tcp', host: '127.0.0.1', port: proxy.port } as const
    const device = remote(address, 'disk', { hold: 60_000 })
    await device.open()
    workshop.later(() => device.close())
    return { proxy, device }
  }

  it('never land late', async () => {
    const { proxy, device } = await build()
    const versions = Array.from({ length: blocks }, () => 0)
    const end = performance.now() + soakSeconds * 1000

    async function expectLast(block: number): Promise<void> {
      const bytes = await read(device, block * blockBytes, blockBytes)
      const found = [bytes.readUInt32LE(0), bytes.readUInt32LE(blockBytes - 4)]
      expect(found, `block ${block}`).to.deep.equal([versions[block], versions[block]])
    }
    async function overwrite(block: number): Promise<void> {
      while (performance.now() < end) {
        const version = versions[block]! + 1
        const bytes = Buffer.alloc(blockBytes)
        bytes.writeUInt32LE(version, 0)
        bytes.writeUInt32LE(version, blockBytes - 4)
        await write(device, block * blockBytes, bytes)
        versions[block] = version
        // Not each time, so that what is sent into the ice is writes too.
        if (version % 4 === 0) await expectLast(block)
      }
    }
    const work = Promise.all(versions.map((_, block) => overwrite(block)))
    const counts = await troubled([stranded(proxy)], 2, work)
    proxy.deliver()
    await sleep(100)
    for (const block of versions.keys()) await expectLast(block)
    expect(counts['stranded']).to.be.at.least(2)
    expect(Math.min(...versions)).to.be.at.least(10)
  })
})

/** What was on its way arrives when its sender has long sent it again, and newer writes too. */
function stranded(proxy: Proxy): Trouble {
  return {
    name: 'stranded',
    run: async (random: SeededRandom) => {
      // Answers still come, so that each has a new write sent: into the ice.
      proxy.freeze('requests')
      await sleep(between(random, 20, 200))
      proxy.strand()
      await sleep(between(random, 300, 1500))
      proxy.deliver()
    },
  }
}
