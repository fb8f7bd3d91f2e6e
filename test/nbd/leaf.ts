import { systemClock } from '../../src/base/clock.ts'
import { systemRandom } from '../../src/base/random.ts'
import { Slab } from '../../src/base/slab.ts'
import { Device } from '../../src/device/device.ts'
import type { Address } from '../../src/net/address.ts'
import { SocketNetwork, type Receive } from '../../src/net/sockets.ts'
import { NbdDriver, type NbdOptions } from '../../src/nbd/remote.ts'
import type { ClientWorld } from '../../src/peer/link.ts'

export function nbdWorld(receive: Receive = 'landing'): ClientWorld {
  const network = new SocketNetwork(receive)
  return { network, slab: new Slab(), clock: systemClock, random: systemRandom }
}

/** A device over an NBD server's export. */
export function nbdLeaf(
  address: Address,
  name: string,
  options: Partial<NbdOptions> = {},
  world: ClientWorld = nbdWorld(),
): Device {
  const driver = new NbdDriver({ address, name, ...options }, world)
  return new Device('leaf', driver, systemClock)
}
