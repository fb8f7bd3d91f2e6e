import { expect } from 'chai'
import type { Device } from '../../src/device/device.ts'
import { Operation } from '../../src/device/request.ts'
import { write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, failing, Head, later, MemoryStore, pattern } from './head.ts'

const slow = { legRetryMs: 200, legRetryMsMax: 200 }

/** How often requests are failed, and the device is said to have lost its cache, within 500 ms. */
async function countsOf(disk: Disk, device: Device): Promise<{ failed: number; lives: number }> {
  const { fault } = disk
  const bootIds = new Set<string>()
  let failed = 0
  disk.fault = (request) => {
    const error = fault(request)
    if (error !== null) failed++
    bootIds.add(device.facts!.bootId)
    return error
  }
  await later(500)
  return { failed, lives: bootIds.size }
}

describe('a leg whose disk can be read, and fails every write and flush', () => {
  it('is left in peace between two tries to bring it back', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), slow).open()
    failing(legs['b']!, (operation) => operation !== Operation.read)
    await write(head.device, 0, pattern(1))
    await head.until('b is out', () => head.state('b') !== 'in-sync')
    const { failed, lives } = await countsOf(legs['b']!, head.legs.get('b')!)
    expect(failed, 'two or three tries, of a request or two each').to.be.lessThan(10)
    expect(lives, 'and each life is kept in the state directory').to.be.lessThan(10)
    await head.device.close()
  })
})
