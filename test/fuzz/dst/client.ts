import { silentLog } from '../../../src/base/log.ts'
import { KiB } from '../../../src/base/size.ts'
import type { ClientWorld } from '../../../src/peer/link.ts'
import { defaultRemoteOptions, type RemoteOptions } from '../../../src/wire/remote-options.ts'
import { RemoteDriver } from '../../../src/wire/remote.ts'
import { address, Client, patience } from '../clients.ts'
import type { Surface, Trial } from '../trial.ts'
import { World } from '../world.ts'
import { HostileDst, identity } from './hostile.ts'

/** A client that believes nothing without checksums, or everything. */
class DstClient extends Client {
  private readonly hostile: HostileDst

  constructor(world: World, hostile: HostileDst, make: (world: ClientWorld) => RemoteDriver) {
    super(world, hostile, make)
    this.hostile = hostile
  }

  override believes(): boolean {
    const { lied, isSeen } = this.hostile
    return lied && !isSeen
  }

  /** It does not come back to another device, nor if it was told that it was outbid. */
  override mayRecover(): boolean {
    const { facts, state } = this.device
    if (state.word === 'failed') return false
    return (
      facts === null || (facts.identity === identity && facts.size <= this.server.content.length)
    )
  }
}

/** Hostile servers of the DST/1 client. */
export const dstClient: Surface = {
  name: 'dst-client',
  weight: 2,
  async run(trial: Trial): Promise<void> {
    const { dice } = trial
    const world = new World(trial)
    const isSeen = dice.chance(0.4)
    const server = new HostileDst(trial, dice.pick([32 * KiB, 256 * KiB]), isSeen)
    await server.listen(world)
    const options: RemoteOptions = {
      ...defaultRemoteOptions,
      ...patience,
      address,
      name: 'disk',
      connections: dice.pick([1, 2, 3]),
      checksums: isSeen || dice.chance(0.3),
      pingInterval: 300,
      pingTimeout: 900,
    }
    let driver: RemoteDriver | null = null
    const client = new DstClient(world, server, (within) => {
      driver = new RemoteDriver(options, { ...within, log: silentLog })
      return driver
    })
    const questions = client.open().then(() => ask(driver!, dice.below(4)))
    await client.ask()
    await world.settle(questions, 600_000, 'all questions have an end')
    await client.recover()
    await client.close()
  },
}

/** Asks what is no request of a range; each has an end. */
async function ask(driver: RemoteDriver, which: number): Promise<void> {
  const asked: Promise<unknown>[] = []
  if (which > 0) asked.push(driver.stamp())
  if (which > 1) asked.push(driver.claimed())
  if (which > 2) asked.push(driver.claim(9))
  await Promise.allSettled(asked)
}
