import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { StorageError } from '../../src/base/errors.ts'
import { Device } from '../../src/device/device.ts'
import { Lives } from '../../src/device/lives.ts'
import { Operation } from '../../src/device/request.ts'
import { ManualClock } from '../support/clock.ts'
import { submit, write } from '../support/io.ts'
import { LossyDriver } from '../support/lossy.ts'
import { MemoryStore } from '../support/memory-store.ts'

const block = Buffer.alloc(4096, 1)
const failure = new StorageError('IO', 'the disk is bad')

/** A process that has the same device open as those before it, in the same boot. */
async function process(
  store: MemoryStore,
  spare: MemoryStore | null = null,
): Promise<{ device: Device; driver: LossyDriver }> {
  const driver = new LossyDriver({ bootId: '1'.repeat(32), identity: '2'.repeat(32) })
  const device = new Device('leaf', driver, systemClock, new Lives(store, spare))
  await device.open()
  return { device, driver }
}

async function failFlush({ device, driver }: Awaited<ReturnType<typeof process>>): Promise<void> {
  await write(device, 0, block)
  Object.assign(driver, { failing: failure, failsFlushes: true })
  expect((await submit(device, Operation.flush, 0, 0)).error?.code).to.equal('IO')
  Object.assign(driver, { failing: null, failsFlushes: false })
}

describe('the life of a cache that began with a failed flush', () => {
  it('is known to every later process, and after one more failure the newer one', async () => {
    const store = new MemoryStore()
    const first = await process(store)
    const seen = [first.device.facts!.bootId]
    for (let failures = 0; failures < 3; failures++) {
      const one = await process(store)
      expect(one.device.facts!.bootId).to.equal(seen.at(-1))
      await failFlush(one)
      seen.push(one.device.facts!.bootId)
      expect(new Set(seen).size).to.equal(seen.length)
    }
    const last = await process(store)
    expect(last.device.facts!.bootId).to.equal(seen.at(-1))
    // Another boot is another life by itself.
    last.driver.say({ bootId: '3'.repeat(32) })
    expect(last.device.facts!.bootId).to.equal('3'.repeat(32))
  })

  it('is durable before the failure is told', async () => {
    const store = new MemoryStore()
    const one = await process(store)
    await write(one.device, 0, block)
    let save: () => void = () => undefined
    store.save = (key, text) =>
      new Promise((resolve) => {
        save = () => resolve(MemoryStore.prototype.save.call(store, key, text))
      })
    let told = false
    const failing = failFlush(one).then(() => (told = true))
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(told).to.equal(false)
    save()
    await failing
    expect((await process(store)).device.facts!.bootId).to.equal(one.device.facts!.bootId)
  })

  it('is told all the same where it cannot be kept', async () => {
    const store = new MemoryStore()
    const one = await process(store)
    const problems: unknown[] = []
    one.device.onUnkept = (problem) => problems.push(problem)
    store.save = () => Promise.reject(new StorageError('NO_SPACE', 'full'))
    await failFlush(one)
    expect(String(problems[0])).to.include('cannot be kept: full')
  })

  it('is known where the store fails or hangs, by a spare that outlives the process', async () => {
    for (const save of [
      () => Promise.reject(new StorageError('NO_SPACE', 'full')),
      () => new Promise<void>(() => undefined),
    ]) {
      const [store, spare] = [new MemoryStore(), new MemoryStore()]
      await failFlush(await process(store, spare))
      const one = await process(store, spare)
      const before = one.device.facts!.bootId
      store.save = save
      await write(one.device, 0, block)
      Object.assign(one.driver, { failing: failure, failsFlushes: true })
      // Where the store hangs nobody is told: the process may end before it goes on.
      void submit(one.device, Operation.flush, 0, 0)
      await new Promise((resolve) => setImmediate(resolve))
      const after = one.device.facts!.bootId
      expect(after).to.not.equal(before)
      expect((await process(store, spare)).device.facts!.bootId).to.equal(after)
    }
  })

  it('is told all the same where it is not kept in time', async () => {
    const clock = new ManualClock()
    const store = new MemoryStore()
    store.save = () => new Promise(() => undefined)
    const kept = (spare: MemoryStore | null): Promise<string> =>
      new Lives(store, spare).keep('2'.repeat(32), { from: '', to: '' }, clock).then(
        () => 'kept',
        (error: unknown) => String(error),
      )
    const both = [kept(null), kept(new MemoryStore())]
    // The spare answers first.
    await new Promise((resolve) => setImmediate(resolve))
    clock.advance(60_000)
    const [alone, spared] = await Promise.all(both)
    expect(alone).to.include('does not answer')
    expect(spared).to.equal('kept')
  })

  it('is the newest, whichever of store and spare has not heard of it', async () => {
    for (const deaf of ['spare', 'store']) {
      const [store, spare, other] = [new MemoryStore(), new MemoryStore(), new MemoryStore()]
      await failFlush(await process(store, spare))
      // Who starts a process in another way gives it another spare.
      const one = await (deaf === 'spare' ? process(store, other) : process(other, spare))
      await failFlush(one)
      const { device } = await process(store, spare)
      expect(device.facts!.bootId, deaf).to.equal(one.device.facts!.bootId)
    }
  })

  it('is told all the same where the spare hangs', async () => {
    const clock = new ManualClock()
    const spare = new MemoryStore()
    spare.save = () => new Promise(() => undefined)
    const kept = new Lives(new MemoryStore(), spare)
      .keep('2'.repeat(32), { from: '', to: '' }, clock)
      .then(() => 'kept')
    await new Promise((resolve) => setImmediate(resolve))
    clock.advance(60_000)
    const late = new Promise((resolve) => setImmediate(resolve, 'nobody is told'))
    expect(await Promise.race([kept, late])).to.equal('kept')
  })

  it('may have begun where the spare makes no sense, of a device of another boot too', async () => {
    const [store, spare] = [new MemoryStore(), new MemoryStore()]
    const ofAnotherBoot = { from: '3'.repeat(32), to: '4'.repeat(32) }
    await store.save('target.lives', JSON.stringify({ ['2'.repeat(32)]: ofAnotherBoot }))
    await spare.save('target.lives', '{"x":')
    expect((await process(store, spare)).device.facts!.bootId).to.not.equal('1'.repeat(32))
  })

  it('may have begun where the spare cannot be read', async () => {
    const [store, spare] = [new MemoryStore(), new MemoryStore()]
    await spare.save('target.lives', '{"x":')
    const one = await process(store, spare)
    expect(one.device.facts!.bootId).to.not.equal('1'.repeat(32))
  })

  it('is not hidden by what is kept later, where earlier processes cannot be heard', async () => {
    const store = new MemoryStore()
    await store.save('target.lives', '{"x":')
    const one = await process(store)
    await failFlush(one)
    const lives = new Lives(store)
    await lives.load(systemClock)
    expect(lives.known).to.equal(true)
    // The device that failed, one that is seen for the first time since, and one of another boot.
    expect(lives.of('2'.repeat(32), '1'.repeat(32))).to.equal(one.device.facts!.bootId)
    expect(lives.of('4'.repeat(32), '1'.repeat(32))).to.match(/^[0-9a-f]{32}$/)
    expect(lives.of('4'.repeat(32), '3'.repeat(32))).to.equal(null)
    expect(await store.load('target.lives.damaged')).to.equal('{"x":')
  })

  it('says what cannot be read, and where it was set aside', async () => {
    const store = new MemoryStore()
    await store.save('target.lives', '{"x":')
    const lives = new Lives(store)
    await lives.load(systemClock)
    expect(lives.warning).to.include('every start counts as a failed flush')
    await lives.keep('2'.repeat(32), { from: '1'.repeat(32), to: '5'.repeat(32) }, systemClock)
    expect(lives.warning).to.include('set aside as target.lives.damaged')
  })

  it('may have begun where the state directory does not answer in time', async () => {
    const clock = new ManualClock()
    const store = new MemoryStore()
    store.load = () => new Promise(() => undefined)
    const lives = new Lives(store)
    const loading = lives.load(clock)
    clock.advance(60_000)
    await loading
    expect(lives.known).to.equal(false)
    expect(lives.warning).to.include('does not answer')
  })

  it('is not kept where what cannot be read would be lost by that', async () => {
    const store = new MemoryStore()
    await store.save('target.lives', '{"x":')
    store.setAside = () => Promise.reject(new StorageError('IO', 'no second name'))
    const one = await process(store)
    const problems: unknown[] = []
    one.device.onUnkept = (problem) => problems.push(problem)
    await failFlush(one)
    expect(String(problems[0])).to.include('no second name')
    expect(await store.load('target.lives')).to.equal('{"x":')
  })

  it('may have been in every process before, where nobody can read what those saw', async () => {
    for (const text of ['{"x":', '[]', '{"x":{"from":1}}', null]) {
      const store = new MemoryStore()
      if (text === null) store.load = () => Promise.reject(new StorageError('IO', 'unreadable'))
      else await store.save('target.lives', text)
      const [one, other] = [await process(store), await process(store)]
      expect(one.device.facts!.bootId).to.match(/^[0-9a-f]{32}$/)
      expect(one.device.facts!.bootId).to.not.equal('1'.repeat(32))
      expect(one.device.facts!.bootId).to.not.equal(other.device.facts!.bootId)
    }
  })
})
