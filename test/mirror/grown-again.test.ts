import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { StorageError } from '../../src/base/errors.ts'
import { Operation } from '../../src/device/request.ts'
import { metadataBytes, slotsFor, superblockBytes } from '../../src/mirror/layout.ts'
import type { Volume } from '../../src/mirror/volume.ts'
import { flush, read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, extentSize, Head, MemoryStore, pattern } from './head.ts'

/** What the disks grow to, one after the other. */
const once = 8 * MiB
const twice = 12 * MiB
const more = twice - 4 * MiB
/** From there the metadata are that were moved to `once`, and the superblocks of these. */
const moved = once - metadataBytes({ dataSize: once, extentSize, slots: slotsFor(2) })
const superblocks = once - 2 * superblockBytes

/** Saves that are asked for while it is lost are never heard of again. */
class LosingStore extends MemoryStore {
  lost = 0
  losing = false

  override save(key: string, text: string): Promise<void> {
    if (!this.losing) return super.save(key, text)
    this.lost++
    return new Promise(() => undefined)
  }
}

function volumeOf({ driver }: Head): Volume {
  return (driver as unknown as { volume: Volume }).volume
}

function growAll(legs: Readonly<Record<string, Disk>>, size: number): void {
  for (const disk of Object.values(legs)) disk.grow(size)
}

/** Superblocks that were written at the end of the disk that has grown once. */
function stamps({ log }: Disk): number {
  const is = ({ operation, offset }: Disk['log'][number]): boolean =>
    operation === Operation.write && offset >= superblocks && offset < once
  return log.filter(is).length
}

/** A volume whose legs have grown once: their metadata were moved, and no more than that. */
async function halfGrown(store: MemoryStore, ...names: string[]) {
  const legs = disks(...names)
  const head = await new Head(legs, store, { suspendMs: 200, intentIdleMs: 1 }).open()
  await head.inSync(...names)
  const { size } = head.device.facts!
  await write(head.device, 0, pattern(1))
  await flush(head.device)
  const first = legs[names[0]!]!
  let held = false
  // Of all legs the first is the first to get maps of the new size, once all have been moved.
  first.hold = ({ operation, offset }) => {
    const maps = offset >= moved && offset < superblocks
    const holds = operation === Operation.write && maps && stamps(first) >= 2
    held ||= holds
    return holds
  }
  growAll(legs, once)
  await head.until('all metadata were moved', () => held)
  return { legs, head, first, size }
}

/** The volume comes by itself to what all legs have, and shows what was written. */
async function becomesLarger(head: Head, size: number, names: readonly string[]): Promise<void> {
  const reason = (): string => String(head.driver.describe()['reason'])
  const over = (): boolean => reason().includes('put back')
  await head.until('it has grown', () => over() || head.device.facts?.size === size + more)
  expect(reason()).to.not.include('put back')
  await head.inSync(...names)
  expect((await read(head.device, 0, 4096)).equals(pattern(1))).to.equal(true)
  const texts = head.history().map(({ text }) => text)
  expect(texts.filter((text) => text.includes('put back'))).to.deep.equal([])
}

describe('a leg that grew while its removal was known to the head alone', () => {
  it('is found where the other legs say, once the record of the head is in doubt', async () => {
    const store = new MemoryStore()
    const legs = disks('a', 'b', 'c')
    const head = await new Head(legs, store).open()
    await head.inSync('a', 'b', 'c')
    for (const name of ['a', 'b'])
      legs[name]!.hold = ({ operation }) => operation === Operation.write
    void head.driver.removeLeg('c').catch(() => undefined)
    let kept = ''
    await head.until('the head knows', () => {
      void store.load('m').then((text) => (kept = text!))
      return kept !== '' && !kept.includes('"name":"c"')
    })
    head.kill()
    for (const name of ['a', 'b']) legs[name]!.hold = () => false
    legs['c']!.grow(once)
    const [number, floor, , ...claims] = (await store.load('m_head'))!.split(' ')
    await store.save('m_head', [number, floor, '*', ...claims].join(' '))
    const next = await new Head(legs, store).open()
    await next.inSync('a', 'b', 'c')
    await next.device.close()
  })
})

describe('legs that grow once more while the volume grows', () => {
  it('are found where their metadata were moved to though the new size is not saved', async () => {
    const store = new LosingStore()
    const { legs, head, first, size } = await halfGrown(store, 'a', 'b')
    store.losing = true
    first.letGo()
    await head.until('the new size cannot be saved', () => store.lost > 0)
    growAll(legs, twice)
    await head.until('it is suspended', () => !volumeOf(head).running)
    store.losing = false
    await becomesLarger(head, size, ['a', 'b'])
    await head.device.close()
  })

  it('are found by the next head, which knows their marks of where they were', async () => {
    const store = new MemoryStore()
    const { legs, head, first, size } = await halfGrown(store, 'a')
    const before = stamps(first)
    volumeOf(head).marks.forced()
    await head.until('it is marked', () => stamps(first) > before)
    const { mark } = volumeOf(head).legs[0]!.member!
    let saved: string | null = ''
    await head.until('the mark is saved', () => {
      void store.load('m_marks').then((text) => (saved = text))
      return saved?.includes(`"serial":${mark}`) === true
    })
    head.kill()
    growAll(legs, twice)
    first.hold = () => false
    const next = await new Head(legs, store).open()
    await becomesLarger(next, size, ['a'])
    await next.device.close()
  })

  it('are found by the next head, which knows that another leg left', async () => {
    const store = new MemoryStore()
    const { legs, head, first, size } = await halfGrown(store, 'a', 'b')
    legs['b']!.goAway()
    const { membership } = volumeOf(head)
    await head.until('b has left', () => head.state('b') === 'missing' && !membership.pending)
    head.kill()
    growAll(legs, twice)
    first.hold = () => false
    const next = await new Head(legs, store, {}, ['b']).open()
    await next.until('it runs, or waits for somebody', () => {
      return next.device.usable || String(next.driver.describe()['reason']).includes('waiting')
    })
    expect(next.device.state.reason).to.not.include('waiting')
    legs['b']!.comeBack()
    await becomesLarger(next, size, ['a', 'b'])
    await next.device.close()
  })

  it('are found by a head that remembers nothing, where they were last', async () => {
    for (const grown of [['a', 'b'], ['a']]) {
      const { legs, head, first, size } = await halfGrown(new MemoryStore(), 'a', 'b')
      legs['b']!.goAway()
      const { membership } = volumeOf(head)
      await head.until('b has left', () => head.state('b') === 'missing' && !membership.pending)
      head.kill()
      for (const name of grown) legs[name]!.grow(twice)
      first.hold = () => false
      const next = await new Head(legs, new MemoryStore()).open()
      await next.inSync('a', 'b')
      const left = next.history().filter(({ text }) => text.startsWith('left as missing'))
      expect(left.length, 'the record is of the time when b had left').to.equal(1)
      for (const disk of Object.values(legs)) if (disk.size < twice) disk.grow(twice)
      await becomesLarger(next, size, ['a', 'b'])
      await next.device.close()
    }
  })
})

describe('a leg whose metadata are moved by one head', () => {
  it('is found where they are by another that looked at it before', async () => {
    const legs = disks('a')
    const first = await new Head(legs, new MemoryStore()).open()
    await first.inSync('a')
    const { size } = first.device.facts!
    await write(first.device, 0, pattern(1))
    const a = legs['a']!
    let held = false
    a.hold = ({ operation, offset }) => {
      const holds = operation === Operation.write && offset >= moved && offset < once
      held ||= holds
      return holds
    }
    a.grow(once)
    await first.until('its metadata are about to be moved', () => held)
    const second = new Head(legs, new MemoryStore())
    let looked = 0
    a.onClaim = async () => {
      if (looked++ > 0) return
      a.letGo()
      a.hold = ({ operation }) => operation === Operation.write && stamps(a) >= 2
      await first.until('they were moved', () => stamps(a) >= 2)
      first.kill()
      a.hold = () => false
    }
    await second.open()
    await second.inSync('a')
    expect(volumeOf(second).legs[0]!.end).to.equal(once)
    a.grow(twice)
    await becomesLarger(second, size, ['a'])
    await second.device.close()
  })
})

describe('a leg whose head dies when one of its superblocks is moved', () => {
  it('is not in doubt for a head that remembers nothing', async () => {
    const legs = disks('a')
    const first = await new Head(legs, new MemoryStore()).open()
    await first.inSync('a')
    const { size } = first.device.facts!
    await write(first.device, 0, pattern(1))
    const a = legs['a']!
    let held = false
    a.hold = ({ operation, offset }) => {
      const second = offset >= superblocks && offset < once && stamps(a) > 0
      held ||= operation === Operation.write && second
      return held
    }
    a.grow(once)
    await first.until('one is moved', () => held)
    first.kill()
    a.hold = () => false
    const second = await new Head(legs, new MemoryStore()).open()
    await second.until('it is served, or waits', () => {
      return second.device.usable || String(second.driver.describe()['reason']).includes('wait')
    })
    expect(String(second.driver.describe()['reason'])).to.not.include('put back')
    a.grow(twice)
    await becomesLarger(second, size, ['a'])
    await second.device.close()
  })

  it('is not in doubt when the next head dies as well before it has written another', async () => {
    for (let steps = 0, grown = false; !grown; steps++) {
      const legs = disks('a')
      const store = new MemoryStore()
      const first = await new Head(legs, store).open()
      await first.inSync('a')
      const { size } = first.device.facts!
      await write(first.device, 0, pattern(1))
      await flush(first.device)
      const a = legs['a']!
      let left = steps
      const dies = (head: Head, now: () => boolean): void => {
        let dead = false
        a.fault = () => {
          if (!dead && now()) {
            dead = true
            head.kill()
          }
          return dead ? new StorageError('UNAVAILABLE', 'the head is dead') : null
        }
      }
      dies(first, () => left-- === 0)
      a.grow(once)
      await first.until('dead or grown', () => left < 0 || first.device.facts!.size > size)
      grown = left >= 0
      first.kill()
      a.fault = () => null
      const second = new Head(legs, store)
      let gone = false
      a.fault = ({ operation, offset }) => {
        const writes = operation === Operation.write && offset % superblockBytes === 0
        if (!gone && writes) second.kill()
        gone ||= writes
        return gone ? new StorageError('UNAVAILABLE', 'the head is dead') : null
      }
      await second.open()
      await second.until('it dies', () => gone)
      a.fault = () => null
      const third = await new Head(legs, store).open()
      await third.until('it is served, or waits', () => {
        return third.device.usable || String(third.driver.describe()['reason']).includes('wait')
      })
      const reason = String(third.driver.describe()['reason'])
      expect(reason, `after ${steps} steps`).to.not.include('put back')
      await third.device.close()
    }
  })
})
