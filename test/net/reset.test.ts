import net from 'node:net'
import { once } from 'node:events'
import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import type { Connection, ConnectionHandler } from '../../src/net/network.ts'
import { SocketNetwork } from '../../src/net/sockets.ts'

/** A handler that only waits for the end. */
function waiting(over: () => void): ConnectionHandler {
  const nowhere = Buffer.alloc(16)
  return {
    landing: () => nowhere,
    landed: () => undefined,
    sent: () => undefined,
    closed: over,
  }
}

describe('destroying a connection', () => {
  for (const receive of ['landing', 'events'] as const)
    it(`keeps what the system has not sent from arriving late, ${receive}`, async () => {
      const server = net.createServer({ pauseOnConnect: true })
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      const { port } = server.address() as net.AddressInfo
      const accepted = once(server, 'connection') as Promise<[net.Socket]>
      let over: () => void = () => undefined
      const closed = new Promise<void>((resolve) => (over = resolve))
      const connection = await new Promise<Connection>((resolve, reject) => {
        const attach = (connected: Connection): ConnectionHandler => {
          resolve(connected)
          return waiting(over)
        }
        const address = { kind: 'tcp', host: '127.0.0.1', port } as const
        new SocketNetwork(receive).connect(address, 1000, attach, reject)
      })
      const [socket] = await accepted
      // More than the buffers of both sides take while nobody reads.
      connection.send([Buffer.alloc(32 * MiB)])
      connection.destroy()
      await closed
      let received = 0
      socket.on('data', (chunk: Buffer) => (received += chunk.length))
      socket.on('error', () => undefined)
      // Not `once` of events: it takes the reset, which is what we want, for a failure.
      const gone = new Promise((resolve) => socket.once('close', resolve))
      socket.resume()
      await gone
      server.close()
      expect(received, 'what the receiver had, not what the sender still had').to.be.below(MiB)
    })
})
