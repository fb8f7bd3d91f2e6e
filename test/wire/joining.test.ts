import { expect } from 'chai'
import { once } from 'node:events'
import net from 'node:net'
import type { Device } from '../../src/device/device.ts'
import { restartsOf } from '../../src/device/facts.ts'
import { decodePreface, encodeWelcome, Feature, prefaceBytes } from '../../src/wire/hello.ts'
import { exampleWelcome } from './messages.ts'
import { reaches, remote } from './rig.ts'

/** What a server says of itself, and of the session. */
interface Saying {
  readonly instance: string
  readonly text: string
}

/** Welcomes its connections one after the other so, the last ones all alike; answers nothing. */
async function saying(...all: readonly Saying[]): Promise<net.Server> {
  let welcomed = 0
  const server = net.createServer((socket) => {
    let bytes = Buffer.alloc(0)
    let greeted = false
    socket.on('error', () => undefined)
    socket.on('data', (chunk) => {
      bytes = Buffer.concat([bytes, chunk])
      if (greeted || bytes.length < prefaceBytes) return
      const preface = decodePreface(bytes, 0)
      if (typeof preface === 'string' || bytes.length < prefaceBytes + preface.length) return
      greeted = true
      const what = all[Math.min(welcomed++, all.length - 1)]!
      socket.write(encodeWelcome({ ...exampleWelcome, features: Feature.memory, ...what }))
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

describe('a further connection of a session', () => {
  let server: net.Server
  let device: Device
  afterEach(async () => {
    await device.close()
    server.close()
  })

  async function connect(...all: readonly Saying[]): Promise<void> {
    server = await saying(...all)
    const { port } = server.address() as net.AddressInfo
    device = remote({ kind: 'tcp', host: '127.0.0.1', port }, 'x', { connections: 2 })
    await device.open()
  }

  const first = { instance: 'a'.repeat(32), text: '1' }

  it('that tells of a restart further down ends it, and the restart counts', async () => {
    await connect(first, { ...first, instance: 'a'.repeat(16) + 'b'.repeat(16) })
    await reaches(device, (each) => restartsOf(each) === 1 && each.state.word === 'online')
  })

  it('that leads to another process ends it, and the restart counts', async () => {
    await connect(first, { instance: 'b'.repeat(32), text: '1' })
    await reaches(device, (each) => restartsOf(each) === 1 && each.state.word === 'online')
  })

  it('that leads to another session ends it, and the restart counts', async () => {
    await connect(first, { ...first, text: '2' })
    await reaches(device, (each) => restartsOf(each) === 1 && each.state.word === 'online')
  })

  it('is one of it where the server says the same', async () => {
    await connect(first, first)
    const connections = (): unknown => device.driver.describe()['connections']
    while (connections() !== 2) await new Promise((resolve) => setTimeout(resolve, 5))
    expect(restartsOf(device)).to.equal(0)
  })
})
