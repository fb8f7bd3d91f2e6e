import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { flush, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, Head, MemoryStore, pattern } from './head.ts'

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
})
