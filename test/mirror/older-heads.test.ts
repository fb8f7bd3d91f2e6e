import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { flush, read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, Head, later, MemoryStore, pattern } from './head.ts'

type Legs = Readonly<Record<'a' | 'b', Disk>>

const patient = { legRetryMs: 60_000, legRetryMsMax: 60_000 }

/** From now on the leg takes no superblock: whoever starts claims it, and then loses it. */
function refuseSuperblocks(disk: Disk): void {
  const slots = [0, 1].map((slot) => superblockOffset(disk.size, slot))
  disk.fault = ({ operation, offset }) =>
    operation === Operation.write && slots.includes(offset)
      ? new StorageError('UNAVAILABLE', 'gone')
      : null
}

interface Replaced {
  readonly legs: Legs
  readonly older: MemoryStore
  readonly newer: MemoryStore
  readonly second: Head
}

/**
 * A head wrote ones and stopped. A second one on another machine claimed both legs, lost b before
 * b had its generation, and wrote twos.
 */
async function replaced(number: string): Promise<Replaced> {
  const legs = disks('a', 'b') as unknown as Legs
  const [older, newer] = [new MemoryStore(), new MemoryStore()]
  await older.save('m_head', `${number} 0`)
  const first = await new Head(legs, older).open()
  await write(first.device, 0, pattern(1))
  await flush(first.device)
  await first.device.close()
  refuseSuperblocks(legs.b)
  const second = await new Head(legs, newer, patient).open()
  await second.until('it serves', () => second.device.usable)
  expect(second.state('b')).to.not.equal('in-sync')
  await write(second.device, 0, pattern(2))
  await flush(second.device)
  return { legs, older, newer, second }
}

/** What the older head reads when it starts again and finds these legs: 0 when it waits. */
async function foundBy(legs: Legs, store: MemoryStore, away: string[]): Promise<number> {
  const head = await new Head(legs, store, {}, away).open()
  await later(50)
  const found = head.device.usable ? (await read(head.device, 0, 4096))[0]! : 0
  if (found === 0) expect(head.driver.describe()['volume']).to.be.oneOf(['waiting', 'failed'])
  head.kill()
  return found
}

interface Overtaken {
  readonly legs: Legs
  readonly store: MemoryStore
  readonly third: Head
}

/**
 * A head wrote ones and stopped. It starts again without a, has looked at b and is about to claim
 * it, when another one starts with both, loses b, writes twos and dies. The claim is carried out;
 * `answer` is what becomes of its answer.
 */
async function overtaken(answer: () => Promise<void>): Promise<Overtaken> {
  const legs = disks('a', 'b') as unknown as Legs
  const store = new MemoryStore()
  // Its number is larger than the other's: its claim passes.
  await store.save('m_head', '1048000 0')
  const first = await new Head(legs, store).open()
  await write(first.device, 0, pattern(1))
  await first.device.close()
  const third = new Head(legs, store, {}, ['a'])
  let another: Head | null = null
  let claimed: () => void = () => undefined
  const isClaimed = new Promise<void>((resolve) => (claimed = resolve))
  const save = store.save.bind(store)
  // What it saw of b is what it saw.
  store.save = async (key, text) => {
    if (another === null && key === 'm_head') {
      another = new Head(legs, new MemoryStore(), patient)
      legs.b.fault = ({ operation }) =>
        operation === Operation.write ? new StorageError('UNAVAILABLE', 'gone') : null
      await another.open()
      await another.until('it serves', () => another!.device.usable)
      await write(another.device, 0, pattern(2))
      another.kill()
      legs.b.fault = () => null
      legs.b.onClaimed = () => {
        legs.b.onClaimed = () => Promise.resolve()
        claimed()
        return answer()
      }
    }
    await save(key, text)
  }
  void third.open()
  await isClaimed
  expect(another).to.not.equal(null)
  return { legs, store, third }
}

describe('a head whose legs another one has had since', () => {
  it('does not serve from a leg that the other claimed and lost', async () => {
    // Its number is larger than the other's: its claim passes.
    const { legs, older, second } = await replaced('1048000')
    second.kill()
    legs.b.fault = () => null
    const head = await new Head(legs, older, {}, ['a']).open()
    await later(50)
    expect(head.device.usable).to.equal(false)
    expect(head.driver.describe()['reason']).to.include('another head may have had the legs since')
    legs.a.comeBack()
    await head.inSync('a', 'b')
    expect((await read(head.device, 0, 4096))[0]).to.equal(2)
    await head.device.close()
  })

  it('nor by what it saved itself and no leg has heard of', async () => {
    const legs = disks('a', 'b') as unknown as Legs
    const [older, newer] = [new MemoryStore(), new MemoryStore()]
    await older.save('m_head', '1048000 0')
    const first = await new Head(legs, older, patient).open()
    await write(first.device, 0, pattern(1))
    await flush(first.device)
    refuseSuperblocks(legs.b)
    legs.a.goAway()
    await first.until('both are lost', () => !first.device.usable)
    first.kill()
    legs.a.comeBack()
    const second = await new Head(legs, newer, patient).open()
    await second.until('it serves', () => second.device.usable)
    await write(second.device, 0, pattern(2))
    await flush(second.device)
    second.kill()
    legs.b.fault = () => null
    expect(await foundBy(legs, older, ['a'])).to.equal(0)
  })

  it('nor from one that the other gave up', async () => {
    const { legs, older, second } = await replaced('1048000')
    await second.driver.removeLeg('b')
    expect(legs.b.epoch).to.equal(0)
    second.kill()
    legs.b.fault = () => null
    expect(await foundBy(legs, older, ['a'])).to.equal(0)
  })

  it('nor when its own number is the smaller one', async () => {
    const { legs, older, second } = await replaced('1')
    second.kill()
    legs.b.fault = () => null
    expect(await foundBy(legs, older, ['a'])).to.equal(0)
    expect(await foundBy(legs, older, [])).to.equal(2)
  })

  it('nor when that was more generations ago than a volume remembers', async () => {
    const { legs, older, newer, second } = await replaced('1048000')
    await second.device.close()
    for (let starts = 0; starts < 70; starts++)
      await (await new Head(legs, newer, {}, ['b']).open()).device.close()
    legs.b.fault = () => null
    expect(await foundBy(legs, older, ['a'])).to.equal(0)
    // The leg that went on knows when b left, so it needs no operator.
    expect(await foundBy(legs, older, ['b'])).to.equal(2)
  })

  it('nor after it has claimed that leg itself, in a start that came to nothing', async () => {
    const { legs, older, second } = await replaced('1048000')
    second.kill()
    legs.b.fault = () => null
    // It finds both, decides by the newer one, and dies before it has saved what it found.
    const save = older.save.bind(older)
    older.save = (key, text) => (key === 'm' ? new Promise(() => undefined) : save(key, text))
    const dies = new Head(legs, older)
    void dies.open()
    const { claims } = legs.b
    const before = claims.length
    await dies.until('b is claimed', () => claims.length > before)
    await dies.until('it starts', () => dies.driver.describe()['volume'] === 'starting')
    dies.kill()
    older.save = save
    expect(await foundBy(legs, older, ['a'])).to.equal(0)
    expect(await foundBy(legs, older, [])).to.equal(2)
    // It has a record of its own by now.
    expect(await foundBy(legs, older, ['b'])).to.equal(2)
  })

  it('nor when the other one comes between its looking and its claim', async () => {
    const { legs, store, third } = await overtaken(() => Promise.resolve())
    await later(50)
    expect(third.device.usable).to.equal(false)
    third.kill()
    expect(await foundBy(legs, store, ['a'])).to.equal(0)
    expect(await foundBy(legs, store, [])).to.equal(2)
  })

  it('nor when then the answer to its claim is lost', async () => {
    const lost = new StorageError('UNAVAILABLE', 'the target restarted')
    const { legs, store, third } = await overtaken(() => Promise.reject(lost))
    await later(50)
    expect(third.device.usable).to.equal(false)
    third.kill()
    expect(await foundBy(legs, store, ['a'])).to.equal(0)
    expect(await foundBy(legs, store, [])).to.equal(2)
    // It has a record of its own by now.
    expect(await foundBy(legs, store, ['b'])).to.equal(2)
  })

  it('nor when it dies before it hears that answer', async () => {
    const { legs, store, third } = await overtaken(() => new Promise(() => undefined))
    third.kill()
    expect(await foundBy(legs, store, ['a'])).to.equal(0)
    expect(await foundBy(legs, store, [])).to.equal(2)
  })
})

describe('a head whose record is damaged', () => {
  it('makes no new volume of blank legs, but by an operator’s word', async () => {
    for (const damage of ['[]', '1', '{"volume":"x"}', '']) {
      const store = new MemoryStore()
      await store.save('m', damage)
      const head = await new Head(disks('a', 'b'), store).open()
      await head.until('it waits', () => head.driver.describe()['volume'] === 'waiting')
      expect(head.driver.describe()['reason']).to.include('cannot be read')
      await head.driver.startVolume({ force: true })
      await head.inSync('a', 'b')
      await head.device.close()
    }
  })
})

describe('a head that alone has had its legs', () => {
  it('starts from one of them, however often it died while it started', async () => {
    const legs = disks('a', 'b') as unknown as Legs
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await write(first.device, 0, pattern(1))
    first.kill()
    for (let times = 0; times < 3; times++) {
      legs.b.hold = ({ operation }) => operation === Operation.write
      const dies = new Head(legs, store, {}, ['a'])
      void dies.open()
      await dies.until('it starts', () => dies.driver.describe()['volume'] === 'starting')
      dies.kill()
    }
    legs.b.hold = () => false
    expect(await foundBy(legs, store, ['a'])).to.equal(1)
  })

  it('starts from one of them, though the other was lost while it was claimed', async () => {
    const legs = disks('a', 'b') as unknown as Legs
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await write(first.device, 0, pattern(1))
    await flush(first.device)
    first.kill()
    legs.b.onClaim = () => {
      legs.b.goAway()
      return Promise.reject(new StorageError('UNAVAILABLE', 'gone'))
    }
    const head = await new Head(legs, store).open()
    await head.inSync('a')
    expect(head.state('b')).to.equal('missing')
    expect((await read(head.device, 0, 4096))[0]).to.equal(1)
    head.kill()
  })

  it('knows the claims that a version made which did not keep them', async () => {
    const legs = disks('a', 'b') as unknown as Legs
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await write(first.device, 0, pattern(1))
    await first.device.close()
    const [number, floor] = (await store.load('m_head'))!.split(' ')
    await store.save('m_head', `${number} ${floor}`)
    expect(await foundBy(legs, store, ['b'])).to.equal(1)
  })

  it('takes every claim for another’s when it has forgotten its own', async () => {
    const legs = disks('a', 'b') as unknown as Legs
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await write(first.device, 0, pattern(1))
    await first.device.close()
    await store.save('m_head', 'rubbish')
    expect(await foundBy(legs, store, ['b'])).to.equal(0)
    expect(await foundBy(legs, store, [])).to.equal(1)
  })
})
