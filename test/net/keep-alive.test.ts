import { expect } from 'chai'
import { readFileSync } from 'node:fs'
import net from 'node:net'
import { SocketNetwork } from '../../src/net/sockets.ts'

const network = new SocketNetwork()

describe('the listener of a network', () => {
  it('asks a silent client over TCP whether it is there', async () => {
    const where = { kind: 'tcp', host: '127.0.0.1', port: 0 } as const
    const handler = { landing: () => Buffer.alloc(1), landed() {}, sent() {}, closed() {} }
    let accepted: () => void = () => undefined
    const came = new Promise<void>((resolve) => (accepted = resolve))
    const accept = () => {
      accepted()
      return handler
    }
    const listener = await network.listen(where, accept, { keepAlive: 90_000 })
    const port = listener.address.kind === 'tcp' ? listener.address.port : 0
    const client = net.connect(port, '127.0.0.1')
    await came
    // Of the connection's end here: a timer of the kind "keep-alive", in hundredths of a second.
    const local = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
    const lines = readFileSync('/proc/net/tcp', 'utf8').split('\n')
    const words = lines.map((line) => line.trim().split(/\s+/))
    const [kind, left] = words
      .find((each) => each[1]?.endsWith(local) === true && each[3] === '01')![5]!
      .split(':')
    expect(kind).to.equal('02')
    expect(parseInt(left!, 16)).to.be.within(1, 9000)
    client.destroy()
    await listener.close()
  })
})
