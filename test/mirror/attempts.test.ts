import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import type { VolumeRecord } from '../../src/mirror/record.ts'
import { flush, read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, Head, later, MemoryStore, pattern } from './head.ts'

type Legs = Readonly<Record<'a' | 'b', Disk>>

interface Served {
  readonly legs: Legs
  readonly store: MemoryStore
}

/** A volume of two legs in which a head with that number wrote ones, and closed it. */
async function served(number: string): Promise<Served> {
  const legs = disks('a', 'b') as unknown as Legs
  const store = new MemoryStore()
  await store.save('m_head', `${number} 0`)
  const head = await new Head(legs, store).open()
  await head.inSync('a', 'b')
  await write(head.device, 0, pattern(1))
  await flush(head.device)
  await head.device.close()
  return { legs, store }
}

/** What a head reads when it starts and finds these legs: 0 when it does not serve. */
async function foundBy(legs: Legs, store: MemoryStore, away: string[] = []): Promise<number> {
  const head = await new Head(legs, store, {}, away).open()
  await later(80)
  const found = head.device.usable ? (await read(head.device, 0, 4096))[0]! : 0
  head.kill()
  return found
}

/**
 * Of the next attempt to start, both links break once its generation is saved: before any leg hears
 * of that, or when a has it.
 */
function breakAfter(what: 'save' | 'superblock', { legs, store }: Served): () => boolean {
  let broken = false
  const breakLinks = (): void => {
    broken = true
    legs.a.goAway()
    legs.b.goAway()
  }
  if (what === 'save') {
    const save = store.save.bind(store)
    store.save = async (key, text) => {
      await save(key, text)
      if (key === 'm' && !broken) breakLinks()
    }
  } else {
    const slots = [0, 1].map((slot) => superblockOffset(legs.b.size, slot))
    legs.b.fault = ({ operation, offset }) => {
      if (broken || operation !== Operation.write || !slots.includes(offset)) return null
      breakLinks()
      return new StorageError('UNAVAILABLE', 'gone')
    }
  }
  return () => broken
}

/** A head whose first attempt to start was broken off, and whose legs are back. */
async function brokenOff(what: 'save' | 'superblock', { legs, store }: Served): Promise<Head> {
  const isBroken = breakAfter(what, { legs, store })
  const head = new Head(legs, store)
  void head.open()
  const waits = (): boolean => head.driver.describe()['volume'] === 'waiting'
  await head.until('it was broken off', () => isBroken() && waits())
  return head
}

function comeBack({ a, b }: Legs): void {
  a.comeBack()
  b.comeBack()
}

describe('a start that takes several attempts', () => {
  for (const what of ['save', 'superblock'] as const)
    it(`needs no operator where the answer to a claim was lost, after the ${what}`, async () => {
      const { legs, store } = await served('1')
      const head = await brokenOff(what, { legs, store })
      let lost = false
      legs.b.onClaimed = () => {
        if (lost) return Promise.resolve()
        lost = true
        return Promise.reject(new StorageError('UNAVAILABLE', 'the answer is lost'))
      }
      comeBack(legs)
      await head.until('an answer is lost', () => lost)
      await head.inSync('a', 'b')
      await write(head.device, 0, pattern(2))
      await flush(head.device)
      await head.device.close()
      // Nor is its record in doubt, as no other head has had the legs.
      expect(await foundBy(legs, store, ['b'])).to.equal(2)
    })

  it('needs none where its process was killed twice', async () => {
    const { legs, store } = await served('1')
    // When its generation is saved, and no leg has heard of it.
    const second = new Head(legs, store)
    const save = store.save.bind(store)
    let saved = false
    store.save = async (key, text) => {
      await save(key, text)
      if (key !== 'm' || saved) return
      saved = true
      second.kill()
    }
    void second.open()
    await second.until('it is killed', () => saved)
    // When its claims are carried out, and it has not heard so.
    const third = new Head(legs, store)
    let claimed = false
    legs.b.onClaimed = () => {
      claimed = true
      return new Promise(() => undefined)
    }
    void third.open()
    await third.until('it claims', () => claimed)
    third.kill()
    legs.b.onClaimed = () => Promise.resolve()
    expect(await foundBy(legs, store)).to.equal(1)
  })

  it('serves in a generation that whoever takes over claims above', async () => {
    const { legs, store } = await served('1048000')
    const head = await brokenOff('superblock', { legs, store })
    comeBack(legs)
    await head.inSync('a', 'b')
    await write(head.device, 0, pattern(2))
    await flush(head.device)
    head.kill()
    const newer = new MemoryStore()
    await newer.save('m_head', '1 0')
    expect(await foundBy(legs, newer)).to.equal(2)
  })

  it('makes one generation, and one claim', async () => {
    const { legs, store } = await served('1048000')
    const head = await brokenOff('superblock', { legs, store })
    const { generation } = head.driver.describe()
    const claims = [...legs.b.claims]
    comeBack(legs)
    await head.inSync('a', 'b')
    expect(head.driver.describe()['generation']).to.equal(generation)
    expect(legs.b.claims.slice(claims.length)).to.deep.equal(claims.slice(-1))
    head.kill()
  })

  it('makes no second generation of a number where it does not go by its record', async () => {
    const { legs, store } = await served('1')
    const newer = new MemoryStore()
    const other = await new Head(legs, newer).open()
    await other.inSync('a', 'b')
    await other.device.close()
    // The last that it did was to save a record of which no leg has heard.
    const record = JSON.parse((await store.load('m'))!) as VolumeRecord
    const counter = record.generation.counter + 5
    record.generation = { id: 'fedcba9876543210', counter }
    await store.save('m', JSON.stringify(record))
    const head = await new Head(legs, store).open()
    await head.inSync('a', 'b')
    await head.device.close()
    const { generation } = JSON.parse((await store.load('m'))!) as VolumeRecord
    expect(generation.counter).to.be.above(counter)
  })
})
