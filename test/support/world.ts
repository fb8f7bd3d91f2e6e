import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { Slab } from '../../src/base/slab.ts'
import { SocketNetwork } from '../../src/net/sockets.ts'

/** What a target gets from outside, all of it real but for the log. */
export function systemWorld() {
  return {
    clock: systemClock,
    random: systemRandom,
    network: new SocketNetwork(),
    slab: new Slab(),
    log: silentLog,
  }
}
