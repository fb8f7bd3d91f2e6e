import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { Device } from '../../src/device/device.ts'
import { LinearDriver } from '../../src/devices/linear.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { Operation } from '../../src/device/request.ts'
import { flush, read, submit, write } from '../support/io.ts'
import { StrictDriver } from '../support/strict.ts'
import { SeededRandom } from '../support/seeded.ts'

const random = new SeededRandom(1)

function memory(path: string, size: number): Device {
  return new Device(path, new MemoryDriver(size, random), systemClock)
}

async function linear(...parts: Device[]): Promise<Device> {
  const device = new Device('l', new LinearDriver(parts), systemClock)
  await device.open()
  return device
}

describe('a linear', () => {
  it('puts its parts one after the other', async () => {
    const parts = [memory('l/0', 1000), memory('l/1', 50), memory('l/2', 1000)]
    const device = await linear(...parts)
    expect(device.facts!.size).to.equal(2050)
    const data = random.bytes(2050)
    await write(device, 0, data)
    expect((await read(parts[0]!, 0, 1000)).equals(data.subarray(0, 1000))).to.equal(true)
    expect((await read(parts[1]!, 0, 50)).equals(data.subarray(1000, 1050))).to.equal(true)
    expect((await read(parts[2]!, 0, 1000)).equals(data.subarray(1050))).to.equal(true)
    await device.close()
  })

  it('is no larger than numbers go, nor becomes so', async () => {
    const large = (path: string): Device => {
      const driver = new StrictDriver(1000, { size: 2 ** 52 }, random)
      return new Device(path, driver, systemClock)
    }
    const device = await linear(large('l/0'), large('l/1'))
    expect(device.state.word).to.equal('failed')
    expect(device.state.reason).to.contain('9007199254740991')
    await device.close()
    const last = memory('l/1', 1000)
    const growing = await linear(large('l/0'), last)
    last.online({ ...last.facts!, size: 2 ** 52 })
    expect(growing.state.word).to.equal('online')
    expect(growing.facts!.size).to.equal(2 ** 52 + 1000)
    await growing.close()
  })

  it('fails only the span of a part that is away', async () => {
    const parts = [memory('l/0', 1000), memory('l/1', 1000)]
    const device = await linear(...parts)
    parts[1]!.offline('offline', 'unplugged')
    expect(device.state.word).to.equal('degraded')
    expect(device.state.reason).to.contain('l/1')
    await read(device, 0, 1000)
    const across = await submit(device, Operation.read, 999, 2)
    expect(across.error?.code).to.equal('UNAVAILABLE')
    expect(across.error?.device).to.equal('l/1')
    expect(across.data.length).to.equal(0)
    const flushed = await submit(device, Operation.flush, 0, 0)
    expect(flushed.error?.code, 'a flush needs every part').to.equal('UNAVAILABLE')
    parts[1]!.online(parts[1]!.facts!)
    expect(device.state.word).to.equal('online')
    await flush(device)
    await device.close()
  })

  it('flushes the parts that can be flushed, though others cannot', async () => {
    const able = memory('l/0', 1000)
    const driver = new StrictDriver(1000, { flush: 'none', fua: 'none' }, random)
    const device = await linear(able, new Device('l/1', driver, systemClock))
    expect(device.facts!.flush).to.equal('native')
    await flush(device)
    expect(able.counters.operations[Operation.flush]).to.equal(1)
    expect(driver.seen).to.deep.equal([])
    await device.close()
  })

  it('waits for the size of every part', async () => {
    const late = memory('l/1', 1000)
    const driver = late.driver
    driver.open = () => Promise.resolve()
    const device = await linear(memory('l/0', 1000), late)
    expect(device.state.word).to.equal('opening')
    expect(device.facts).to.equal(null)
    const model = memory('model', 1000)
    await model.open()
    late.online(model.facts!)
    expect(device.state.word).to.equal('online')
    expect(device.facts!.size).to.equal(2000)
    await device.close()
  })

  it('refuses parts that its largest block does not divide', async () => {
    const coarse = memory('l/1', 8192)
    const device = await linear(memory('l/0', 1000), coarse)
    coarse.online({ ...coarse.facts!, blockSize: 4096 })
    expect(device.state.word).to.equal('failed')
    expect(device.state.reason).to.contain('l/0 has 1000 bytes')
    const refused = await submit(device, Operation.read, 0, 4096)
    expect(refused.error?.code).to.equal('IO')
    await device.close()
  })

  it('lets the last part grow, ignores growth elsewhere, and fails when one shrinks', async () => {
    const parts = [memory('l/0', 1000), memory('l/1', 1000)]
    const device = await linear(...parts)
    const [first, last] = parts.map((part) => part.facts!)
    const data = random.bytes(2000)
    await write(device, 0, data)
    parts[0]!.online({ ...first!, size: 1500 })
    expect(device.facts!.size).to.equal(2000)
    expect((await read(device, 0, 2000)).equals(data), 'nothing moved').to.equal(true)
    parts[1]!.online({ ...last!, size: 3000 })
    expect(device.facts!.size).to.equal(4000)
    parts[0]!.online({ ...first!, size: 999 })
    expect(device.state.word).to.equal('failed')
    expect(device.state.reason).to.contain('l/0 shrank from 1000 to 999')
    parts[0]!.online(first!)
    expect(device.state.word).to.equal('online')
    parts[1]!.online({ ...last!, size: 2999 })
    expect(device.state.word).to.equal('failed')
    await device.close()
  })

  it('has a stamp that changes with any part', async () => {
    const device = await linear(memory('l/0', 1000), memory('l/1', 1000))
    const before = await device.driver.stamp!()
    expect(await device.driver.stamp!()).to.equal(before)
    await write(device, 1500, Buffer.from('x'))
    expect(await device.driver.stamp!()).to.not.equal(before)
    await device.close()
  })
})
