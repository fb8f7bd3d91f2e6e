import { expect } from 'chai'
import { Operation } from '../../src/device/request.ts'
import { Pace } from '../../src/mirror/data/pace.ts'
import type { Volume } from '../../src/mirror/volume.ts'
import { write } from '../support/io.ts'
import { disks, Head, pattern } from './head.ts'

describe('how long writes take', () => {
  it('is not measured of those that began before anybody wanted to know', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, null).open()
    const { volume } = head.driver as unknown as { volume: Volume }
    const b = legs['b']!
    await write(head.device, 0, pattern(1))
    b.hold = ({ operation, offset }) => operation === Operation.write && offset === 0
    const before = write(head.device, 0, pattern(2))
    await head.until('it is under way', () => head.leg('b')['pending'] === 1)
    const pace = new Pace(volume, null)
    b.hold = () => false
    b.letGo()
    await before
    expect(volume.latency.ms, 'of the one before').to.equal(0)
    await write(head.device, 0, pattern(3))
    expect(volume.latency.ms, 'of the one since').to.be.greaterThan(0)
    pace.end()
    await head.device.close()
  })
})
