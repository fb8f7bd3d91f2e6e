import { expect } from 'chai'
import { Operation } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { write } from '../support/io.ts'
import { disks, extentSize, Head, MemoryStore, pattern } from './head.ts'

describe('what was copied', () => {
  it('is copied again after a loss, though it was missed while its leg came back', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), { intentIdleMs: 5 }).open()
    const { a, b } = legs
    b!.goAway()
    await write(head.device, 0, pattern(1))
    let stamping = false
    let cleaning = false
    b!.hold = ({ operation, offset }) => {
      const stamps = operation === Operation.write && offset >= superblockOffset(b!.size, 0)
      stamping ||= stamps
      return stamps || (stamping && operation === Operation.flush)
    }
    b!.comeBack()
    await head.until('b is about to be told that it is being filled', () => stamping)
    a!.hold = ({ operation }) => {
      cleaning ||= operation === Operation.flush
      return operation === Operation.flush
    }
    await write(head.device, 9 * extentSize, pattern(2))
    await head.until('the log is cleaned', () => cleaning)
    b!.letGo(({ operation }) => operation === Operation.write)
    await head.until('b has it in its cache', () => b!.cached[9 * extentSize] === 2)
    a!.letGo()
    await head.until('the log is clean', () => head.driver.describe()['hotExtents'] === 0)
    b!.powerCut()
    b!.hold = () => false
    b!.comeBack()
    await head.inSync('a', 'b')
    expect(b!.cached[9 * extentSize]).to.equal(2)
    await head.device.close()
  })
})
