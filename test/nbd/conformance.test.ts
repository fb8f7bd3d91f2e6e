import { conformance, type Subject } from '../support/conformance.ts'
import type { NbdOptions } from '../../src/nbd/remote.ts'
import type { Receive } from '../../src/net/sockets.ts'
import { sharedKey } from '../support/tls.ts'
import { nbdLeaf, nbdWorld } from './leaf.ts'
import { Rig } from './rig.ts'

async function leafOverRig(
  size: number,
  over: 'unix' | 'tcp',
  receive: Receive,
  options: Partial<NbdOptions> = {},
): Promise<Subject> {
  const rig = new Rig({}, receive)
  await rig.listen()
  await rig.addMemory('m', size)
  const device = nbdLeaf(rig[over], 'm', options, nbdWorld(receive))
  await device.open()
  return { device, dispose: () => rig.close() }
}

conformance('an nbd leaf over TCP', (size) => leafOverRig(size, 'tcp', 'landing'))
conformance('an nbd leaf over a unix socket, received by events', (size) =>
  leafOverRig(size, 'unix', 'events'),
)
conformance('an nbd leaf of two connections under TLS', async (size) => {
  const { entrance, client } = sharedKey(null)
  const rig = new Rig()
  rig.exports.tls = entrance
  await rig.listen()
  await rig.addMemory('m', size)
  const device = nbdLeaf(rig.tcp, 'm', { tls: client, connections: 2 })
  await device.open()
  return { device, dispose: () => rig.close() }
})
conformance('an nbd leaf of four connections', (size) =>
  leafOverRig(size, 'unix', 'landing', { connections: 4 }),
)
