import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { GrownFiles } from '../../src/daemon/grown.ts'
import { ManualClock } from '../support/clock.ts'
import { MemoryStore } from '../support/memory-store.ts'

const key = '_grown'

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'none',
    (error: unknown) => (error as StorageError).code,
  )
}

describe('what is remembered of files that a command enlarged', () => {
  let store: MemoryStore
  let clock: ManualClock
  let grown: GrownFiles
  beforeEach(() => {
    store = new MemoryStore()
    clock = new ManualClock()
    grown = new GrownFiles(store, clock)
    for (const name of ['left', 'right']) grown.expect(name, 1000)
  })

  it('is only what is durable', async () => {
    await grown.note('left', 2000)
    store.save = () => Promise.reject(new StorageError('NO_SPACE', 'full'))
    expect(await codeOf(grown.note('left', 3000))).to.equal('NO_SPACE')
    expect(await codeOf(grown.note('right', 3000))).to.equal('NO_SPACE')
    expect(await grown.sizeOf('left')).to.equal(2000)
    expect(await grown.sizeOf('right')).to.equal(0)
    expect(grown.warnings).to.have.length(1)
  })

  it('has all of several that are noted at once', async () => {
    await Promise.all([grown.note('left', 2000), grown.note('right', 3000)])
    const next = new GrownFiles(store, clock)
    expect(await next.sizeOf('left')).to.equal(2000)
    expect(await next.sizeOf('right')).to.equal(3000)
  })

  it('is not waited for without end, and is known once the directory answers', async () => {
    await grown.note('left', 2000)
    let answer: (text: string | null) => void = () => undefined
    const hanging = new MemoryStore()
    hanging.load = () => new Promise((resolve) => (answer = resolve))
    const next = new GrownFiles(hanging, clock)
    const asked = codeOf(next.sizeOf('left'))
    clock.advance(60_000)
    expect(await asked).to.equal('TIMEOUT')
    answer(await store.load(key))
    expect(await next.sizeOf('left')).to.equal(2000)
  })

  it('keeps no command waiting without end where it cannot be saved', async () => {
    await grown.sizeOf('left')
    store.save = () => new Promise(() => undefined)
    const noted = codeOf(grown.note('left', 2000))
    await new Promise(setImmediate)
    clock.advance(60_000)
    expect(await noted).to.equal('TIMEOUT')
  })

  it('is read again where it could not be', async () => {
    const load = store.load.bind(store)
    store.load = () => Promise.reject(new StorageError('IO', 'unreadable'))
    expect(await codeOf(grown.sizeOf('left'))).to.equal('IO')
    store.load = load
    expect(await grown.sizeOf('left')).to.equal(0)
  })
})
