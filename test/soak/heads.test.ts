import { expect } from 'chai'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Device } from '../../src/device/device.ts'
import { nbdLeaf } from '../nbd/leaf.ts'
import { read, write } from '../support/io.ts'
import { Namespaces, needNamespaces } from '../support/namespaces.ts'
import { Workshop, type DstProcess } from '../support/process.ts'
import { statusOf } from '../support/volume.ts'
import { remote } from '../wire/rig.ts'

const blockBytes = 4096
/** Milliseconds in which the older head must say that it was replaced. */
const noticeMs = 1000
/** Writes through the newer head while the older one is read from. */
const versionsAfter = 300

/**
 * Three machines: two stores with a leg each share one, and two heads run from one configuration.
 * The second head takes the legs over while a client reads from the first as fast as it can.
 */
describe('a second head that starts from the same configuration', function () {
  let workshop: Workshop
  let network: Namespaces
  before(function () {
    return needNamespaces(this)
  })
  beforeEach(async () => {
    workshop = new Workshop()
    network = new Namespaces()
    workshop.later(() => network.close())
    await network.make(['store', 'one', 'two'])
    await workshop.serve(
      'store',
      {
        listeners: [{ protocol: 'dst', address: `${network.address(0)}:4470`, open: true }],
        devices: {
          left: { type: 'file', path: 'left.img', size: '16M', create: true },
          right: { type: 'file', path: 'right.img', size: '16M', create: true },
        },
        exports: { left: { device: 'left' }, right: { device: 'right' } },
      },
      { namespace: network.of('store') },
    )
  })
  afterEach(async function () {
    if (this.currentTest?.isFailed() === true) console.log(workshop.logs())
    await workshop.close()
  })

  /** Starts a head in a folder and a namespace of its own. */
  async function startHead(name: string): Promise<DstProcess> {
    const leg = (leg: string) => ({
      type: 'remote',
      uri: `dst://${network.address(0)}:4470/${leg}`,
    })
    mkdirSync(join(workshop.folder, name))
    const config = {
      listeners: [
        { protocol: 'dst', address: 'unix:dst.sock' },
        { protocol: 'nbd', address: 'unix:nbd.sock' },
      ],
      management: { address: 'unix:management.sock' },
      devices: { home: { type: 'mirror', legs: { left: leg('left'), right: leg('right') } } },
      exports: { home: { device: 'home' } },
    }
    writeFileSync(join(workshop.folder, name, 'dst.json'), JSON.stringify(config))
    return workshop.run(['serve', join(name, 'dst.json')], { namespace: network.of(name) })
  }

  async function open(device: Device): Promise<Device> {
    await device.open()
    workshop.later(() => device.close())
    return device
  }

  const at = (head: string, protocol: string) =>
    ({ kind: 'unix', path: join(workshop.folder, head, `${protocol}.sock`) }) as const

  const clients = {
    'DST/1': () => remote(at('one', 'dst'), 'home'),
    NBD: () => nbdLeaf(at('one', 'nbd'), 'home', { requestTimeout: 5000 }),
  }
  for (const [protocol, client] of Object.entries(clients))
    it(`ends all reads of old data at the first one, over ${protocol}`, async () => {
      await startHead('one')
      const reader = await open(client())
      await write(reader, 0, Buffer.alloc(blockBytes, 0))
      let acknowledged = 0
      let reads = 0
      let over = false
      workshop.later(() => (over = true))
      const wrong: string[] = []
      const reading = async (): Promise<void> => {
        for (; !over; reads++) {
          const least = acknowledged
          const bytes = await read(reader, 0, blockBytes).catch(() => null)
          const found = bytes?.readUInt32LE(0) ?? Infinity
          if (found < least) wrong.push(`${found} after ${least} was acknowledged`)
          // A head that refuses does so at once: the loop must not have the processor alone.
          if (bytes === null) await new Promise(setImmediate)
        }
      }
      const work = reading()
      await startHead('two')
      const writer = await open(remote(at('two', 'dst'), 'home'))
      const version = Buffer.alloc(blockBytes)
      const serves = performance.now()
      for (let next = 1; next <= versionsAfter; next++) {
        version.writeUInt32LE(next, 0)
        await write(writer, 0, version)
        acknowledged = next
      }
      await saysReplaced('one', serves + noticeMs)
      over = true
      await work
      expect(wrong, `of ${reads} reads`).to.deep.equal([])
    })

  /** Waits until the head's status says that a newer one has taken over. */
  async function saysReplaced(name: string, deadline: number): Promise<void> {
    const management = `unix:${join(name, 'management.sock')}`
    for (;;) {
      const asked = performance.now()
      const said = JSON.stringify(await statusOf(workshop.folder, management))
      if (said.includes('newer head')) return
      // What was asked for before the deadline may be answered later on a busy machine.
      if (asked > deadline) throw new Error(`no word of a newer head: ${said}`)
    }
  }
})
