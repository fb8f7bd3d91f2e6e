import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { flush, read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { answer, disks, Head, later, MemoryStore, outcome, pattern } from './head.ts'
import { UnreadStore } from './unread-store.ts'

type Legs = Readonly<Record<'a' | 'b', Disk>>

const patient = { legRetryMs: 60_000, legRetryMsMax: 60_000 }

/** The record cannot be saved either. */
class UnsavedStore extends UnreadStore {
  saves = true
  /** Whether it says at once that the record cannot be saved, and how often it has. */
  refuses = false
  refused = 0

  override save(key: string, text: string): Promise<void> {
    if (key === 'm' && this.refuses) {
      this.refused++
      return Promise.reject(new StorageError('IO', 'no space'))
    }
    if (key === 'm' && !this.saves) return new Promise(() => undefined)
    return super.save(key, text)
  }
}

interface Replaced {
  readonly legs: Legs
  readonly older: UnsavedStore
  /** Has not heard of the second one yet. */
  readonly first: Head
}

/**
 * A head wrote ones. A second one on another machine claimed both legs, lost b before b had its
 * generation, wrote twos, and died.
 */
async function replaced(): Promise<Replaced> {
  const legs = disks('a', 'b') as unknown as Legs
  const older = new UnsavedStore()
  // Its number is larger than the other's: its claim passes.
  await older.save('m_head', '1048000 0')
  const first = await new Head(legs, older).open()
  await write(first.device, 0, pattern(1))
  await flush(first.device)
  const slots = [0, 1].map((slot) => superblockOffset(legs.b.size, slot))
  legs.b.fault = ({ operation, offset }) =>
    operation === Operation.write && slots.includes(offset)
      ? new StorageError('UNAVAILABLE', 'gone')
      : null
  const second = await new Head(legs, new MemoryStore(), patient).open()
  await second.until('it serves', () => second.device.usable)
  expect(second.state('b')).to.not.equal('in-sync')
  await write(second.device, 0, pattern(2))
  await flush(second.device)
  second.kill()
  legs.b.fault = () => null
  return { legs, older, first }
}

/** What the head reads when it starts and finds these legs: 0 when it does not serve. */
async function foundBy(
  legs: Legs,
  store: MemoryStore,
  away: string[],
  made: (head: Head) => Head = (head) => head,
): Promise<number> {
  const head = await made(new Head(legs, store, {}, away)).open()
  await later(50)
  const found = head.device.usable ? (await read(head.device, 0, 4096))[0]! : 0
  head.kill()
  return found
}

async function diesWhileItStarts(head: Head): Promise<void> {
  void head.open()
  await killedWhileItStarts(head)
}

async function killedWhileItStarts(head: Head): Promise<void> {
  await head.until('it starts', () => head.driver.describe()['volume'] === 'starting')
  head.kill()
}

describe('a head that cannot read its own record for a moment', () => {
  it('does not go by that record later, once its claims have replaced another head’s', async () => {
    const { legs, older, first } = await replaced()
    first.kill()
    older.unread = ['m']
    older.saves = false
    await diesWhileItStarts(new Head(legs, older))
    older.unread = []
    older.saves = true
    // Each of these claims a little more, until no leg refuses it.
    for (let starts = 0; starts < 10; starts++)
      expect(await foundBy(legs, older, ['a']), `start ${starts}`).to.equal(0)
    expect(await foundBy(legs, older, [])).to.equal(2)
    // It has a record of its own by now.
    expect(await foundBy(legs, older, ['b'])).to.equal(2)
  })

  it('nor when an operator has it take back what another head has', async () => {
    const { legs, older, first } = await replaced()
    legs.a.fault = ({ operation }) =>
      operation === Operation.write ? new StorageError('FENCED', 'another has claimed it') : null
    expect(await outcome(write(first.device, 0, pattern(3)))).to.equal('FENCED')
    legs.a.fault = () => null
    await later(20)
    older.unread = ['m']
    older.saves = false
    void first.driver.startVolume({ force: true }).catch(() => undefined)
    await killedWhileItStarts(first)
    older.unread = []
    older.saves = true
    expect(await foundBy(legs, older, ['a'])).to.equal(0)
    expect(await foundBy(legs, older, [])).to.equal(2)
  })

  it('nor when what it knew of another head cannot be read either', async () => {
    const { legs, older, first } = await replaced()
    first.kill()
    // As a leg on this machine, b does not say who has it.
    const withoutClaims = (head: Head): Head => {
      for (const method of ['claim', 'claimed', 'stamp'])
        Object.defineProperty(head.legs.get('b')!.driver, method, { value: undefined })
      return head
    }
    older.saves = false
    await diesWhileItStarts(withoutClaims(new Head(legs, older)))
    older.saves = true
    older.unread = ['m_head']
    expect(await foundBy(legs, older, ['a'], withoutClaims)).to.equal(0)
  })

  it('nor in the same life, when a start that claimed the legs came to nothing', async () => {
    const { legs, older, first } = await replaced()
    first.kill()
    older.unread = ['m']
    older.refuses = true
    const next = await new Head(legs, older, patient).open()
    await next.until('it is refused', () => older.refused > 0)
    legs.a.goAway()
    older.unread = []
    older.refuses = false
    for (let tries = 0; tries < 3; tries++)
      expect(await answer(next.driver.startVolume({}))).to.include('another head may have had')
  })

  it('doubts it durably before it claims a leg', async () => {
    const legs = disks('a', 'b') as unknown as Legs
    const store = new UnsavedStore()
    const first = await new Head(legs, store).open()
    await first.inSync('a', 'b')
    await first.device.close()
    const doubted = async (): Promise<unknown> => (await store.load('m_head'))?.split(' ')[2]
    expect(await doubted()).to.equal('-')
    store.unread = ['m']
    store.saves = false
    await diesWhileItStarts(new Head(legs, store))
    expect(await doubted()).to.equal('*')
  })

  it('goes by it once it can be read, when it has claimed nothing meanwhile', async () => {
    const legs = disks('a', 'b') as unknown as Legs
    const store = new UnsavedStore()
    const first = await new Head(legs, store).open()
    await first.inSync('a', 'b')
    await write(first.device, 0, pattern(1))
    await first.device.close()
    const claims = legs.b.claims.length
    store.unread = ['m']
    const next = await new Head(legs, store, patient, ['a']).open()
    await next.until('it waits', () => String(next.driver.describe()['reason']).includes('waiting'))
    expect(legs.b.claims.length).to.equal(claims)
    store.unread = []
    // Nor is it in doubt after that, when a start by it comes to nothing.
    store.refuses = true
    expect(await answer(next.driver.startVolume({}))).not.to.equal('done')
    expect(legs.b.claims.length).to.be.greaterThan(claims)
    store.refuses = false
    expect(await answer(next.driver.startVolume({}))).to.equal('done')
    expect((await read(next.device, 0, 4096))[0]).to.equal(1)
  })

  it('but asks by then who has had the legs', async () => {
    const { legs, older, first } = await replaced()
    first.kill()
    older.unread = ['m']
    const next = await new Head(legs, older, patient, ['a']).open()
    await next.until('it waits', () => String(next.driver.describe()['reason']).includes('waiting'))
    older.unread = []
    expect(await answer(next.driver.startVolume({}))).to.include('another head may have had')
  })

  it('serves from all legs in sync, and from one of them the next time', async () => {
    const legs = disks('a', 'b') as unknown as Legs
    const store = new UnsavedStore()
    const first = await new Head(legs, store).open()
    await write(first.device, 0, pattern(1))
    await first.device.close()
    store.unread = ['m']
    expect(await foundBy(legs, store, ['a'])).to.equal(0)
    expect(await foundBy(legs, store, [])).to.equal(1)
    store.unread = []
    expect(await foundBy(legs, store, ['a'])).to.equal(1)
  })
})
