import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { write } from '../support/io.ts'
import { disks, Head, HeldStore, outcome, pattern } from './head.ts'
import { MemoryStore } from '../support/memory-store.ts'

/** A store that answers nothing for as long as it is stuck. */
class StuckStore extends MemoryStore {
  stuck = false

  override load(key: string): Promise<string | null> {
    return this.stuck ? new Promise(() => undefined) : super.load(key)
  }

  override save(key: string, text: string): Promise<void> {
    return this.stuck ? new Promise(() => undefined) : super.save(key, text)
  }
}

const settings = { suspendMs: 150, legTimeoutMs: 60 }

describe('a state directory that hangs', () => {
  it('keeps nobody waiting for a volume that cannot start without it', async () => {
    const legs = disks('a', 'b')
    const store = new HeldStore()
    const first = await new Head(legs, store).open()
    await first.device.close()
    const open = store.shut()
    // Longer than any test: only the volume itself waits for that.
    const head = new Head(legs, store, { suspendMs: 600_000 })
    await head.device.open()
    expect(head.device.usable).to.equal(false)
    expect(head.device.state.reason).to.include('takes long')
    open()
    await head.until('it runs', () => head.device.usable)
    await head.device.close()
  })

  it('is given up like one that fails', async () => {
    const legs = disks('a', 'b')
    const store = new HeldStore()
    const head = await new Head(legs, store, { suspendMs: 200 }).open()
    await write(head.device, 0, pattern(1))
    const open = store.shut()
    legs['b']!.goAway()
    expect(await outcome(write(head.device, 0, pattern(2)))).to.equal('UNAVAILABLE')
    await head.until('it does not say that it runs', () => !head.device.usable)
    open()
    await head.until('it runs again', () => head.device.usable)
    expect(await outcome(write(head.device, 0, pattern(3)))).to.equal('done')
    await head.device.close()
  })

  it('keeps no volume from being closed, nor from being started once it answers', async () => {
    const legs = disks('a', 'b')
    const store = new StuckStore()
    const head = await new Head(legs, store, settings).open()
    await write(head.device, 0, pattern(1))
    store.stuck = true
    legs['b']!.goAway()
    expect(await outcome(write(head.device, 0, pattern(2)))).to.equal('UNAVAILABLE')
    await head.device.close()
    legs['b']!.comeBack()
    const next = await new Head(legs, store, settings).open()
    expect(next.driver.describe()['reason']).to.include(
      'm_head in the state directory cannot be read: no answer',
    )
    store.stuck = false
    await next.inSync('a', 'b')
    await next.device.close()
  })

  it('when it is asked for a volume of before keeps none from being closed', async () => {
    const store = new MemoryStore()
    let asked = 0
    // What the legs are has been read by then, which may have taken hours.
    store.load = (key) =>
      key === 'm' && ++asked > 1 ? new Promise(() => undefined) : Promise.resolve(null)
    const head = await new Head(disks('a', 'b'), store, settings).open()
    expect(head.device.usable).to.equal(false)
    await head.device.close()
  })
})

describe('a state directory that cannot be read for a while', () => {
  it('does not keep a new volume waiting for an operator', async () => {
    const store = new MemoryStore()
    let failing = true
    store.load = (key) =>
      failing
        ? Promise.reject(new StorageError('IO', 'bad disk'))
        : MemoryStore.prototype.load.call(store, key)
    const head = await new Head(disks('a', 'b'), store).open()
    expect(head.driver.describe()['reason']).to.include('cannot be read')
    failing = false
    await head.inSync('a', 'b')
    await head.device.close()
  })

  it('does not make a new volume of blank legs in the place of the one it knows', async () => {
    const store = new MemoryStore()
    const first = await new Head(disks('a', 'b'), store).open()
    await first.inSync('a', 'b')
    const { identity } = first.device.facts!
    await first.device.close()
    let failing = true
    store.load = (key) => {
      if (key !== 'm' || !failing) return MemoryStore.prototype.load.call(store, key)
      failing = false
      return Promise.reject(new StorageError('IO', 'bad disk'))
    }
    const next = await new Head(disks('a', 'b'), store).open()
    const reason = (): string => String(next.driver.describe()['reason'])
    const decided = (): boolean => reason().includes('a blank device') || next.device.usable
    await next.until('it says what it waits for', decided)
    expect(next.device.usable).to.equal(false)
    failing = true
    expect(await outcome(next.driver.startVolume({ force: true }))).to.not.equal('done')
    await next.until('it says it again', decided)
    expect(next.device.usable).to.equal(false)
    expect(await store.load('m')).to.include(identity)
    await next.device.close()
  })
})
