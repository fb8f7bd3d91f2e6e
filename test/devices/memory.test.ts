import { expect } from 'chai'
import fc from 'fast-check'
import { systemClock } from '../../src/base/clock.ts'
import { KiB, MiB, TiB } from '../../src/base/size.ts'
import { Slab, type Block } from '../../src/base/slab.ts'
import { Device } from '../../src/device/device.ts'
import { extentZero } from '../../src/device/extents.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { Flag, Operation, Request } from '../../src/device/request.ts'
import { read, submit, write } from '../support/io.ts'
import { SeededRandom } from '../support/seeded.ts'

const random = new SeededRandom(1)
const page = 64 * KiB

async function memory(size: number): Promise<Device> {
  const device = new Device('m', new MemoryDriver(size, random), systemClock)
  await device.open()
  return device
}

/** A write as a server makes it of what it received: in a block that nobody writes to again. */
async function land(devices: readonly Device[], offset: number, bytes: Buffer, slab: Slab) {
  const block = slab.take(bytes.length)
  bytes.copy(block.bytes)
  await landBlock(devices, offset, bytes.length, block)
}

async function landBlock(devices: readonly Device[], offset: number, length: number, block: Block) {
  block.final = true
  const segments = [block.bytes.subarray(0, length)]
  for (const device of devices) {
    block.retain()
    await submit(device, Operation.write, offset, length, 0, segments, block)
  }
  block.release()
}

/** A read that is not done with its bytes yet. */
function hold(device: Device, offset: number, length: number): Promise<Request> {
  return new Promise((resolve) => {
    device.submit(Request.take(Operation.read, offset, length, 0, { completed: resolve }))
  })
}

describe('a memory that keeps what landed', () => {
  it('has on each device what was written there, and lends what does not change', async () => {
    const pages = 8
    const place = fc.nat({ max: pages - 1 })
    const step = fc.record({
      what: fc.constantFrom('both', 'one', 'small', 'zero', 'hold', 'release'),
      device: fc.nat({ max: 1 }),
      place,
      count: fc.integer({ min: 1, max: 4 }),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const slab = new Slab()
        const devices = [await memory(pages * page), await memory(pages * page)]
        const models = [Buffer.alloc(pages * page), Buffer.alloc(pages * page)]
        const held: { request: Request; bytes: Buffer }[] = []
        for (const { what, device: at, place, count } of steps) {
          const [device, model] = [devices[at]!, models[at]!]
          const offset = place * page
          const length = Math.min(count, pages - place) * page
          if (what === 'both' || what === 'one') {
            const bytes = random.bytes(length)
            await land(what === 'both' ? devices : [device], offset, bytes, slab)
            for (const one of what === 'both' ? models : [model]) bytes.copy(one, offset)
          } else if (what === 'small') {
            const bytes = random.bytes(100)
            await write(device, offset + 50, bytes)
            bytes.copy(model, offset + 50)
          } else if (what === 'zero') {
            await submit(device, Operation.writeZeroes, offset + 10, length - 10)
            model.fill(0, offset + 10, offset + length)
          } else if (what === 'hold') {
            const request = await hold(device, offset, length)
            if (request.leases.length === request.segments.length)
              held.push({ request, bytes: Buffer.concat(request.segments) })
            else request.release()
          } else held.pop()?.request.release()
          for (const [index, one] of devices.entries())
            expect((await read(one, 0, pages * page)).equals(models[index]!)).to.equal(true)
          for (const { request, bytes } of held)
            expect(Buffer.concat(request.segments).equals(bytes), 'what was lent').to.equal(true)
        }
        for (const { request } of held) request.release()
        expect(slab.bytesHeld).to.equal(0)
        for (const device of devices) await device.close()
        expect(slab.bytesInParts).to.equal(0)
      }),
      { numRuns: 50 },
    )
  })

  it('copies nothing of whole pages, and keeps no more than them', async () => {
    const slab = new Slab()
    const device = await memory(4 * MiB)
    await land([device], MiB, random.bytes(MiB), slab)
    expect(slab.bytesInParts).to.equal(MiB)
    await submit(device, Operation.trim, MiB, MiB - page)
    expect(slab.bytesInParts, 'one page does not hold the other fifteen').to.equal(page)
    await land([device], page / 2, random.bytes(MiB), slab)
    expect(slab.bytesInParts, 'pages that lie across two').to.equal(page)
    await device.close()
  })

  it('keeps any range of zeroes allocated without keeping others waiting', async () => {
    const size = 4096 * MiB
    const device = await memory(size)
    await write(device, 0, random.bytes(page))
    const [from, length] = [100, size - 200]
    const before = process.cpuUsage()
    const outcome = await submit(device, Operation.writeZeroes, from, length, Flag.noHole)
    // Filling them takes a second and more, within which nobody else is served.
    const { user, system } = process.cpuUsage(before)
    expect((user + system) / 1000).to.be.below(500)
    expect(outcome.error).to.equal(null)
    const status = await submit(device, Operation.status, page, size - 2 * page)
    expect(status.flags, 'no hole').to.deep.equal([extentZero])
    expect(device.driver.describe()['bytesUsed']).to.equal(page)
    // What is written there later is nobody else's.
    const bytes = random.bytes(1000)
    await write(device, 2 * page + 50, bytes)
    await write(device, 4 * page - 50, bytes)
    for (const at of [page, 3 * page + 1000, 5 * page, size - page])
      expect((await read(device, at, 1000)).equals(Buffer.alloc(1000)), `${at}`).to.equal(true)
    expect((await read(device, 4 * page - 50, 1000)).equals(bytes)).to.equal(true)
    expect(device.driver.describe()['bytesUsed']).to.equal(4 * page)
    await device.close()
  })

  it('takes no memory for ranges that were only trimmed', async () => {
    const device = await memory(64 * TiB)
    const length = 4096 * MiB - page
    const before = process.memoryUsage().heapUsed
    for (let count = 0; count < 64; count++)
      await submit(device, Operation.trim, count * length, length)
    expect(process.memoryUsage().heapUsed - before).to.be.below(32 * MiB)
    await device.close()
  })

  it('leaves no more memory idle in pieces than is sane', async () => {
    const slab = new Slab()
    const device = await memory(2048 * MiB)
    const length = 16 * MiB
    for (let offset = 0; offset < 1280 * MiB; offset += length) {
      // What is in it does not matter, and memory that nobody touched costs nothing.
      await landBlock([device], offset, length, slab.take(length))
      for (let at = 0; at < length; at += 2 * page)
        await submit(device, Operation.trim, offset + at, page)
    }
    expect(slab.bytesIdle).to.be.below(448 * MiB)
    await device.close()
  })
})
