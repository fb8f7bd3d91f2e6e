import { expect } from 'chai'
import { flush, read, write } from '../support/io.ts'
import { Operation, type Request } from '../../src/device/request.ts'
import { disks, Head, later, MemoryStore, outcome, pattern } from './head.ts'

const atStart = ({ operation, offset }: Request): boolean =>
  operation === Operation.write && offset === 0

describe('writes that wait for more legs', () => {
  it('are not overtaken by one that comes in the moment when there are enough', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const save = store.save.bind(store)
    // Stands for a client's packet that is received in the same turn of the loop.
    let meanwhile: () => void = () => undefined
    store.save = (key, text) => {
      meanwhile()
      return save(key, text)
    }
    const head = await new Head(legs, store, { minInSync: 2 }).open()
    await write(head.device, 0, pattern(1))
    const { a, b } = legs
    b!.hold = atStart
    const first = outcome(write(head.device, 0, pattern(2)))
    await later(20)
    // a has it; both go away before b answers, and only a is back at first.
    b!.goAway()
    a!.goAway()
    b!.hold = () => false
    a!.comeBack()
    await head.until('it runs', () => head.state('a') === 'in-sync' && head.device.usable)
    expect((await read(head.device, 0, 4096))[0], 'the first is seen').to.equal(2)
    const second: Promise<string>[] = []
    meanwhile = () => {
      const { volume } = head.driver as unknown as { volume: { inSync: readonly unknown[] } }
      if (volume.inSync.length === 2 && second.length === 0)
        second.push(outcome(write(head.device, 0, pattern(3))))
    }
    b!.comeBack()
    await head.until('both are in sync', () => second.length > 0)
    expect(await second[0]).to.equal('done')
    const after = (await read(head.device, 0, 4096))[0]
    expect(await first).to.equal('done')
    const found = (await read(head.device, 0, 4096))[0]
    expect([after, found], 'once the second is acknowledged').to.deep.equal([3, 3])
    await flush(head.device)
    await head.device.close()
  })

  it('are carried out in the order they came, among them those that come meanwhile', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), { minInSync: 2 }).open()
    const b = legs['b']!
    await write(head.device, 0, pattern(1))
    b.goAway()
    await head.until('b left', () => head.state('b') === 'missing')
    const ended: number[] = []
    const writes = Array.from({ length: 20 }, (_, at) => {
      const writing = write(head.device, 0, pattern(10 + at))
      return writing.then(() => ended.push(10 + at))
    })
    const reading = read(head.device, 0, 4096)
    expect((await reading)[0], 'reads need not wait').to.equal(1)
    b.comeBack()
    await head.inSync('a', 'b')
    const last = write(head.device, 0, pattern(99))
    await Promise.all([...writes, last])
    expect(ended).to.deep.equal(Array.from({ length: 20 }, (_, at) => 10 + at))
    expect((await read(head.device, 0, 4096))[0]).to.equal(99)
    await head.device.close()
  })
})
