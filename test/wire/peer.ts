import { expect } from 'chai'
import { KiB, MiB } from '../../src/base/size.ts'
import { statusOk } from '../../src/wire/status.ts'
import { GateDriver } from './gate.ts'
import { hello, RawClient } from './raw.ts'
import { Target, type TargetOptions } from './rig.ts'

export const size = 4 * MiB
export const block = Buffer.alloc(4 * KiB, 5)

/** A target with one device, whose answers a test can hold back. */
export async function started(
  options: TargetOptions = {},
): Promise<{ target: Target; gate: GateDriver }> {
  const target = new Target(options)
  const gate = new GateDriver(size)
  await target.add('disk', gate)
  await target.start()
  return { target, gate }
}

/** A client that says byte by byte what a test wants, after its hello. */
export async function greeted(target: Target, changes = {}): Promise<RawClient> {
  const client = await RawClient.connect(target.tcp)
  client.send(hello(changes))
  expect((await client.welcome()).status).to.equal(statusOk)
  return client
}
