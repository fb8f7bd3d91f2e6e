import { expect } from 'chai'
import { write } from '../support/io.ts'
import { disks, Head, MemoryStore } from './head.ts'

const block = Buffer.alloc(4096, 1)

describe('the claims of a mirror', () => {
  it('end where a leg is given away, and are made again when it returns', async () => {
    const legs = disks('a', 'b', 'c')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    const { a, b, c } = legs
    expect([a!.epoch, b!.epoch, c!.epoch].every((epoch) => epoch > 0)).to.equal(true)
    await first.driver.detachLeg('b')
    await first.driver.removeLeg('c')
    expect([b!.epoch, c!.epoch], 'anybody may write to them').to.deep.equal([0, 0])
    await first.device.close()
    const second = await new Head({ a: a!, b: b! }, store).open()
    expect(second.state('b')).to.equal('detached')
    expect(b!.epoch, 'also after a restart of the head').to.equal(0)
    await second.driver.attachLeg('b')
    expect(b!.epoch).to.equal(a!.epoch)
    await second.inSync('a', 'b')
    await second.device.close()
  })

  it('rise above those of another volume or a dead head when an operator says so', async () => {
    const legs = disks('a')
    const first = await new Head(legs, new MemoryStore()).open()
    await write(first.device, 0, block)
    await first.device.close()
    const { a } = legs
    const claimed = (a!.epoch *= 1000)
    const second = await new Head(legs, null).open()
    await second.until('it is fenced', () => second.device.state.word === 'failed')
    await second.driver.startVolume()
    expect(a!.epoch).to.be.greaterThan(claimed)
    await write(second.device, 0, block)
    await second.device.close()
  })
})
