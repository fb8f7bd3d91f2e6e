import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { SeededRandom } from '../../src/base/random.ts'
import { Device } from '../../src/device/device.ts'
import { LinearDriver } from '../../src/device/linear.ts'
import { MemoryDriver } from '../../src/device/memory.ts'
import { Operation, Request, type Completer } from '../../src/device/request.ts'

const random = new SeededRandom(1)

function memory(path: string, size: number): Device {
  return new Device(path, new MemoryDriver(size, random), systemClock)
}

/** Submits and waits; the request is the caller's to release. */
function run(device: Device, operation: Operation, offset: number, length: number, data?: Buffer) {
  return new Promise<Request>((resolve) => {
    const owner: Completer = { completed: resolve }
    const request = Request.take(operation, offset, length, 0, owner)
    if (data !== undefined) request.append(data, null)
    device.submit(request)
  })
}

describe('a linear of memories', () => {
  it('reads back what was written across its parts', async () => {
    const device = new Device(
      'l',
      new LinearDriver([memory('l/0', 100_000), memory('l/1', 50_000), memory('l/2', 100_000)]),
      systemClock,
    )
    await device.open()
    expect(device.facts!.size).to.equal(250_000)
    const data = random.bytes(200_000)
    const write = await run(device, Operation.write, 10_000, data.length, data)
    expect(write.error).to.equal(null)
    write.release()
    const read = await run(device, Operation.read, 10_000, data.length)
    expect(Buffer.concat(read.segments).equals(data)).to.equal(true)
    read.release()
    await device.close()
  })

  it('refuses what lies beyond the end', async () => {
    const device = memory('m', 4096)
    await device.open()
    const read = await run(device, Operation.read, 4000, 97)
    expect(read.error?.code).to.equal('RANGE')
    read.release()
    await device.close()
  })
})
