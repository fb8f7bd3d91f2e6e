import { expect } from 'chai'
import { EventEmitter, once } from 'node:events'
import net from 'node:net'
import { Proxy } from './proxy.ts'

/** The cruelties have to be real, or what withstands them proves nothing. */
describe('the misbehaving proxy', () => {
  let server: net.Server
  let proxy: Proxy
  /** What the server heard, per connection, and an event for each change. */
  let heard: string[]
  const changes = new EventEmitter()

  beforeEach(async () => {
    heard = []
    server = net.createServer((socket) => {
      const at = heard.push('') - 1
      socket.on('data', (chunk) => {
        heard[at] = (heard[at] ?? '') + chunk.toString()
        changes.emit('heard')
      })
      socket.on('error', () => undefined)
      socket.write('hello')
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    proxy = await Proxy.start({ port: (server.address() as net.AddressInfo).port })
  })
  afterEach(async () => {
    await proxy.close()
    server.close()
  })

  async function connect(): Promise<net.Socket> {
    const socket = net.connect({ port: proxy.port, host: '127.0.0.1' })
    socket.on('error', () => undefined)
    await once(socket, 'data')
    return socket
  }

  async function hears(connection: number, text: string): Promise<void> {
    while (heard[connection] !== text) await once(changes, 'heard')
  }

  async function holding(): Promise<void> {
    while (!proxy.holding) await new Promise((resolve) => setImmediate(resolve))
  }

  /** A reset is an error too, which `once` would throw. */
  function closing(socket: net.Socket): Promise<void> {
    return new Promise((resolve) => socket.once('close', () => resolve()))
  }

  it('cuts both sides', async () => {
    const socket = await connect()
    proxy.cut()
    await closing(socket)
    expect(proxy.connections).to.equal(0)
  })

  it('holds back what is sent while it is frozen', async () => {
    const socket = await connect()
    proxy.freeze()
    socket.write('frozen')
    await holding()
    expect(heard[0]).to.equal('')
    proxy.thaw()
    await hears(0, 'frozen')
    socket.destroy()
  })

  it('leaves the client of a half-open connection without a word', async () => {
    const socket = await connect()
    proxy.halfOpen()
    let said = false
    socket.on('close', () => (said = true)).on('data', () => (said = true))
    socket.write('into the dark')
    // What comes later has been through everything that could have told the first client.
    const other = await connect()
    expect(said).to.equal(false)
    expect(heard).to.deep.equal(['', ''])
    socket.destroy()
    other.destroy()
  })

  it('delivers what was stranded after what was sent later', async () => {
    const socket = await connect()
    proxy.freeze()
    socket.write('old')
    await holding()
    proxy.strand()
    await closing(socket)
    const next = await connect()
    next.write('new')
    await hears(1, 'new')
    expect(heard[0]).to.equal('')
    proxy.deliver()
    await hears(0, 'old')
    next.destroy()
  })
})
