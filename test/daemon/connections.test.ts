import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { Slab } from '../../src/base/slab.ts'
import { SocketNetwork } from '../../src/net/sockets.ts'
import { checkConfig } from '../../src/config/config.ts'
import { Target } from '../../src/daemon/target.ts'

describe('the connections of a target', () => {
  it('are counted over all listeners and both protocols', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'dst-connections-'))
    const listeners = ['nbd', 'dst'].map((protocol) => ({ protocol, address: `unix:${protocol}` }))
    const { config } = checkConfig({ listeners, limits: { connections: 3 } }, folder)
    const network = new SocketNetwork()
    const parts = { clock: systemClock, random: systemRandom, slab: new Slab(), log: silentLog }
    const target = new Target(config, { ...parts, network })
    await target.start()
    const sockets: net.Socket[] = []
    const connect = async (protocol: string): Promise<net.Socket> => {
      const socket = net.connect(join(folder, protocol))
      sockets.push(socket)
      await once(socket, 'connect')
      return socket
    }
    await connect('dst')
    // The server greets: it has taken them.
    for (let count = 0; count < 2; count++) await once(await connect('nbd'), 'data')
    for (const protocol of ['dst', 'nbd']) await once(await connect(protocol), 'close')
    sockets[1]!.destroy()
    for (let answered = false; !answered;) {
      const socket = await connect('nbd')
      answered = await Promise.race([
        once(socket, 'data').then(() => true),
        once(socket, 'close').then(() => false),
      ])
    }
    for (const socket of sockets) socket.destroy()
    await target.stop()
    rmSync(folder, { recursive: true })
  })
})
