import { expect } from 'chai'
import { once } from 'node:events'
import net from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '../../src/base/clock.ts'
import { parseDuration } from '../../src/base/duration.ts'
import { SocketNetwork } from '../../src/net/sockets.ts'

/** A month is more than the 2^31 ms that a timer of the system can wait. */
const long = parseDuration('1000h')!

describe('a long time', () => {
  it('is not over at once', async () => {
    let over = false
    const timers = [long, 2 ** 31, Number.MAX_SAFE_INTEGER].map((ms) =>
      systemClock.timer(ms, () => (over = true)),
    )
    await sleep(50)
    expect(over).to.equal(false)
    for (const timer of timers) timer.cancel()
  })

  it('can be what a connection may take', async () => {
    const server = net.createServer((socket) => socket.on('error', () => undefined))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as net.AddressInfo
    const connected = new Promise<void>((resolve, reject) => {
      new SocketNetwork().connect(
        { kind: 'tcp', host: '127.0.0.1', port },
        long,
        (connection) => {
          connection.destroy()
          resolve()
          return { landing: () => Buffer.alloc(1), landed() {}, sent() {}, closed() {} }
        },
        reject,
      )
    })
    await connected.finally(() => server.close())
  })
})
