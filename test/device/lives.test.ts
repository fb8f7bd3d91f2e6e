import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { StorageError } from '../../src/base/errors.ts'
import { MemoryStore } from '../../src/base/store.ts'
import { Device } from '../../src/device/device.ts'
import { Lives } from '../../src/device/lives.ts'
import { Operation } from '../../src/device/request.ts'
import { ManualClock } from '../support/clock.ts'
import { submit, write } from '../support/io.ts'
import { LossyDriver } from '../support/lossy.ts'

const block = Buffer.alloc(4096, 1)
const failure = new StorageError('IO', 'the disk is bad')

/** A process that has the same device open as those before it, in the same boot. */
async function process(store: MemoryStore): Promise<{ device: Device; driver: LossyDriver }> {
  const driver = new LossyDriver({ bootId: '1'.repeat(32), identity: '2'.repeat(32) })
  const device = new Device('leaf', driver, systemClock, new Lives(store))
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
    await lives.keep('2'.repeat(32), { from: '1'.repeat(32), to: '5'.repeat(32) })
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
