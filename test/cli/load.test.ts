import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { StorageError } from '../../src/base/errors.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { Device, type Driver, type DriverHost } from '../../src/device/device.ts'
import { Load } from '../../src/cli/load.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { Operation, type Request } from '../../src/device/request.ts'
import { SeededRandom } from '../support/seeded.ts'
import { fill } from '../support/fill.ts'

/** A memory that answers on the next turn of the loop, and remembers how it was asked. */
class SlowDriver implements Driver {
  readonly type = 'memory'
  readonly children = []
  readonly memory = new MemoryDriver(MiB, new SeededRandom(1))
  readonly offsets: number[] = []
  readonly operations: number[] = [0, 0]
  inFlight = 0
  inFlightPeak = 0
  failFrom = Infinity

  open(host: DriverHost): Promise<void> {
    return this.memory.open(host)
  }

  close(): Promise<void> {
    return this.memory.close()
  }

  describe(): Record<string, unknown> {
    return {}
  }

  submit(request: Request): void {
    this.offsets.push(request.offset)
    this.operations[request.operation]!++
    this.inFlightPeak = Math.max(this.inFlightPeak, ++this.inFlight)
    setImmediate(() => {
      this.inFlight--
      if (this.offsets.length > this.failFrom) request.fail(new StorageError('IO', 'planted'))
      else this.memory.submit(request)
    })
  }
}

async function open(driver: Driver): Promise<Device> {
  const device = new Device('load', driver, systemClock)
  await device.open()
  return device
}

describe('a load', () => {
  const random = new SeededRandom(3)

  it('keeps as many requests in flight as asked, in order when sequential', async () => {
    const driver = new SlowDriver()
    const device = await open(driver)
    const work = { reads: 100, sequential: true, blockSize: 64 * KiB, depth: 4 }
    const result = await new Load(device, work, systemClock, random).run(30)
    expect(driver.inFlightPeak).to.equal(4)
    expect(driver.offsets.slice(0, 17).map((offset) => offset / (64 * KiB))).to.deep.equal([
      0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0,
    ])
    expect(result.operations).to.equal(driver.offsets.length)
    expect(result.bytes).to.equal(result.operations * 64 * KiB)
    expect(result.seconds).to.be.within(0.029, 5)
    expect(result.latency.p50).to.be.within(1, result.latency.p999)
    await device.close()
    expect(device.counters.inFlight).to.equal(0)
  })

  it('mixes reads and writes, in whole blocks within the device', async () => {
    const driver = new SlowDriver()
    const device = await open(driver)
    const work = { reads: 70, sequential: false, blockSize: 4 * KiB, depth: 32 }
    await new Load(device, work, systemClock, random).run(50)
    const [reads, writes] = driver.operations
    expect(reads! / (reads! + writes!)).to.be.within(0.5, 0.9)
    for (const offset of driver.offsets) expect(offset % (4 * KiB)).to.equal(0)
    expect(Math.max(...driver.offsets)).to.be.below(MiB)
  })

  it('runs on a device that completes before submit returns', async () => {
    const device = await open(new MemoryDriver(MiB, random))
    const work = { reads: 0, sequential: false, blockSize: 4 * KiB, depth: 2 }
    const result = await new Load(device, work, systemClock, random).run(20)
    // Each completion has submitted the next: a slow machine does not do many in the time.
    expect(result.operations).to.be.above(work.depth)
  })

  it('does one operation at least, also where its time is over before that', async () => {
    const device = await open(new MemoryDriver(MiB, random))
    const work = { reads: 100, sequential: true, blockSize: 4 * KiB, depth: 2 }
    const result = await new Load(device, work, systemClock, random).run(0)
    expect(result.operations).to.equal(1)
  })

  it('ends with the error of a request, when none is in flight any more', async () => {
    const driver = new SlowDriver()
    driver.failFrom = 10
    const device = await open(driver)
    const work = { reads: 100, sequential: false, blockSize: 4 * KiB, depth: 8 }
    const error = await new Load(device, work, systemClock, random)
      .run(5000)
      .catch((e: unknown) => e)
    expect(error).to.be.instanceOf(StorageError)
    expect(driver.inFlight).to.equal(0)
  })

  it('fills a device to its end', async () => {
    const device = await open(new MemoryDriver(2 * MiB + 8 * KiB, random))
    await fill(device, random)
    expect(device.counters.bytes[Operation.write]).to.equal(2 * MiB + 8 * KiB)
  })
})
