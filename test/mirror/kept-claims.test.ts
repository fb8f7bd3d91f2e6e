import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { Operation } from '../../src/device/request.ts'
import { flush, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, failing, Head, MemoryStore, pattern } from './head.ts'

interface Served {
  readonly legs: Record<'a' | 'b' | 'c', Disk>
  readonly store: MemoryStore
}

/** A volume of three legs that was written to and closed. */
async function served(): Promise<Served> {
  const legs = disks('a', 'b', 'c') as unknown as Served['legs']
  const store = new MemoryStore()
  const head = await new Head(legs, store).open()
  await head.inSync('a', 'b', 'c')
  await write(head.device, 0, pattern(1))
  await flush(head.device)
  await head.device.close()
  return { legs, store }
}

describe('claims of a head that serves', () => {
  for (const code of ['UNAVAILABLE', 'INVALID'] as const)
    it(`are known for its own though one leg never answered: ${code}`, async () => {
      const { legs, store } = await served()
      legs.b.onClaim = () => {
        if (code === 'UNAVAILABLE') legs.b.goAway()
        return Promise.reject(new StorageError(code, 'not claimed'))
      }
      // Without b by its record, or because b is lost in this very start.
      if (code === 'INVALID') {
        const without = await new Head(legs, store, {}, ['b']).open()
        await without.inSync('a', 'c')
        await write(without.device, 0, pattern(2))
        await without.device.close()
      }
      const head = await new Head(legs, store).open()
      await head.inSync('a', 'c')
      await write(head.device, 0, pattern(3))
      await head.device.close()
      const next = await new Head(legs, store, {}, ['b', 'c']).open()
      await next.until('it serves from a alone', () => next.device.usable)
      expect(next.state('c')).to.equal('missing')
      next.kill()
    })

  describe('that has started more often than it remembers while a leg was away', () => {
    /** Served without c, and then began so often that of all these it remembers the first. */
    async function restarted(): Promise<Served> {
      const { legs, store } = await served()
      const head = await new Head(legs, store, {}, ['c']).open()
      await head.inSync('a', 'b')
      await head.device.close()
      const [number, floor, doubted, claim] = (await store.load('m_head'))!.split(' ')
      const claims = Array.from({ length: 64 }, (_, at) => Number(claim) + at).toReversed()
      const text = [Number(number) + 63, floor, doubted, ...claims].join(' ')
      await store.save('m_head', text)
      return { legs, store }
    }

    it('are known for its own when the leg is back', async () => {
      const { legs, store } = await restarted()
      const next = await new Head(legs, store, {}, ['b']).open()
      await next.inSync('a', 'c')
      expect(next.warnings.filter((one) => one.includes('waits'))).to.deep.equal([])
    })

    it('are told from those of another head', async () => {
      const { legs, store } = await restarted()
      const another = new MemoryStore()
      await another.save('m_head', '1048000 0')
      failing(legs.b, (operation) => operation === Operation.write)
      const newer = await new Head(legs, another, {}, ['c']).open()
      await newer.inSync('a')
      newer.kill()
      const next = await new Head(legs, store, {}, ['a', 'c']).open()
      await next.until('it waits', () =>
        next.warnings.some((one) => one.includes('another head may have had the legs')),
      )
    })
  })
})
