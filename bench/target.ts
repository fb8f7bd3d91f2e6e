import { systemClock } from '../src/base/clock.ts'
import { silentLog } from '../src/base/log.ts'
import { systemRandom } from '../src/base/random.ts'
import { Slab } from '../src/base/slab.ts'
import { Device } from '../src/device/device.ts'
import { MemoryDriver } from '../src/device/memory.ts'
import { Admission } from '../src/net/admission.ts'
import { defaultLimits } from '../src/net/limits.ts'
import { SocketNetwork } from '../src/net/sockets.ts'
import { NbdService } from '../src/nbd/server.ts'

/** A target that serves one memory device as `bench` over NBD, at a socket's path or a port. */
const [, , at, size] = process.argv
const device = new Device('bench', new MemoryDriver(Number(size), systemRandom), systemClock)
await device.open()
const exported = { name: 'bench', device, readOnly: false, description: '' }
const service = new NbdService({
  exports: {
    find: (name) => (name === exported.name ? exported : undefined),
    list: () => [exported],
  },
  admission: new Admission(defaultLimits.bytesInFlight),
  slab: new Slab(),
  clock: systemClock,
  random: systemRandom,
  log: silentLog,
  limits: defaultLimits,
})
await new SocketNetwork().listen(
  /^\d+$/.test(at!)
    ? { kind: 'tcp', host: '127.0.0.1', port: Number(at) }
    : { kind: 'unix', path: at! },
  service.accept,
)
process.on('SIGTERM', () => process.exit(0))
