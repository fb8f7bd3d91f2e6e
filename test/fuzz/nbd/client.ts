import { KiB } from '../../../src/base/size.ts'
import { NbdDriver } from '../../../src/nbd/remote.ts'
import { address, Client, patience } from '../clients.ts'
import type { Surface, Trial } from '../trial.ts'
import { World } from '../world.ts'
import { HostileNbd } from './hostile.ts'

/** Hostile servers of the NBD client. */
export const nbdClient: Surface = {
  name: 'nbd-client',
  weight: 2,
  async run(trial: Trial): Promise<void> {
    const world = new World(trial)
    const server = new HostileNbd(trial, trial.dice.pick([32 * KiB, 256 * KiB]))
    await server.listen(world)
    const connections = trial.dice.pick([1, 1, 3])
    const options = { address, name: 'disk', connections, quiesce: 100, ...patience }
    const client = new Client(world, server, (within) => new NbdDriver(options, within))
    await client.ask()
    await client.recover()
    await client.close()
  },
}
