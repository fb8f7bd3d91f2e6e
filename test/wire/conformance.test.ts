import { Device } from '../../src/device/device.ts'
import { LinearDriver } from '../../src/devices/linear.ts'
import { systemClock } from '../../src/base/clock.ts'
import type { Receive } from '../../src/net/sockets.ts'
import type { RemoteOptions } from '../../src/wire/remote-options.ts'
import { conformance, type Subject } from '../support/conformance.ts'
import { sharedKey } from '../support/tls.ts'
import { dstProtocol } from '../../src/net/tls/side.ts'
import { clientContext, remote, Target } from './rig.ts'

type Way = ReturnType<typeof sharedKey>

async function leaf(
  size: number,
  over: 'unix' | 'tcp',
  receive: Receive,
  { way = null, ...options }: Partial<RemoteOptions> & { way?: Way | null } = {},
): Promise<Subject> {
  const target = new Target({ receive })
  if (way !== null) target.exports.tls = way.entrance
  await target.addMemory('m', size)
  await target.start()
  const tls = way === null ? {} : { tls: way.client }
  const device = remote(target[over], 'm', { ...options, ...tls }, clientContext(receive))
  await device.open()
  return { device, dispose: () => target.stop() }
}

conformance('a remote leaf over TCP', (size) => leaf(size, 'tcp', 'landing'))
conformance('a remote leaf over a unix socket, received by events', (size) =>
  leaf(size, 'unix', 'events'),
)
conformance('a remote leaf of four connections with checksums', (size) =>
  leaf(size, 'unix', 'landing', { connections: 4, checksums: true }),
)
conformance('a remote leaf of two connections under TLS', (size) =>
  leaf(size, 'tcp', 'landing', { way: sharedKey(dstProtocol) }),
)
conformance('a remote leaf under TLS, received by events', (size) =>
  leaf(size, 'unix', 'events', { way: sharedKey(dstProtocol) }),
)
conformance('a bridge: a remote leaf of a remote leaf', async (size) => {
  const inner = await leaf(size, 'tcp', 'landing')
  const target = new Target()
  target.exports.set('outer', inner.device)
  await target.start()
  const device = remote(target.tcp, 'outer')
  await device.open()
  const dispose = async (): Promise<void> => {
    await target.stop()
    await inner.device.close()
    await inner.dispose()
  }
  return { device, dispose }
})
conformance('a linear of remote leaves', async (size) => {
  const parts = [await leaf(size / 2, 'tcp', 'landing'), await leaf(size / 2, 'unix', 'landing')]
  const driver = new LinearDriver(parts.map(({ device }) => device))
  const device = new Device('linear', driver, systemClock)
  await device.open()
  const dispose = async (): Promise<void> => {
    for (const part of parts) await part.dispose()
  }
  return { device, dispose }
})
