import net from 'node:net'
import { once } from 'node:events'

export interface Destination {
  /** Of 127.0.0.1. */
  readonly port: number
}

/** Ports of 127.0.0.1 that nobody listens on, for servers that have to come back on the same. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => net.createServer())
  for (const server of servers) {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
  }
  const ports = servers.map((server) => (server.address() as net.AddressInfo).port)
  for (const server of servers) {
    server.close()
    await once(server, 'close')
  }
  return ports
}
