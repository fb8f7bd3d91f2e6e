import { expect } from 'chai'
import { Operation, type Request } from '../../src/device/request.ts'
import { read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, extentSize, Head, MemoryStore, pattern } from './head.ts'

/**
 * The flush that the disk keeps covers what the disk has had until now. When it is let go, and has
 * succeeded, the link breaks before anybody has heard of that.
 */
function succeedsAndGoes(disk: Disk): void {
  const covered = Buffer.from(disk.cached)
  disk.fault = (request) => {
    if (request.operation !== Operation.flush) return null
    const complete = request.complete.bind(request)
    request.complete = (): void => {
      delete (request as Partial<Request>).complete
      covered.copy(disk.stable)
      disk.fault = () => null
      complete()
      disk.goAway()
    }
    return null
  }
}

describe('a flush of the mirror’s own', () => {
  it('that succeeded as its leg left says nothing of what was written since it began', async () => {
    const legs = disks('a', 'b')
    const { b } = legs as { b: Disk }
    const head = await new Head(legs, new MemoryStore(), { intentIdleMs: 2 }).open()
    await head.inSync('a', 'b')
    let kept = false
    b.hold = ({ operation }) => {
      if (operation !== Operation.flush) return false
      kept = true
      return true
    }
    await write(head.device, 0, pattern(1))
    await head.until('the log is cleaned', () => kept)
    succeedsAndGoes(b)
    await write(head.device, 2 * extentSize, pattern(2))
    b.letGo()
    await head.until('b is away', () => head.state('b') === 'missing')
    b.powerCut()
    expect(b.cached[2 * extentSize]).to.equal(0)
    b.comeBack()
    await head.inSync('a', 'b')
    for (let turn = 0; turn < 6; turn++)
      expect((await read(head.device, 2 * extentSize, 4096))[0]).to.equal(2)
    expect(b.cached[2 * extentSize]).to.equal(2)
    await head.device.close()
  })
})
