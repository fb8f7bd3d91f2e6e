import { expect } from 'chai'
import { Operation, type Request } from '../../src/device/request.ts'
import { flush, write } from '../support/io.ts'
import { disks, Head, HeldStore, later, outcome, pattern } from './head.ts'

const atStart = ({ operation, offset }: Request): boolean =>
  operation === Operation.write && offset === 0

interface Inner {
  readonly volume: {
    readonly membership: { request(what: 'record'): void }
    readonly short: { readonly length: number }
    readonly readable: readonly unknown[]
  }
}

/**
 * A write that a alone has waits for b; b is in sync again, while another change of the record is
 * under way, and leaves before that is durable: the write waits for legs once more.
 */
async function shortTwice(suspendMs: number) {
  const legs = disks('a', 'b')
  const [a, b] = [legs['a']!, legs['b']!]
  const store = new HeldStore()
  const quick = { minInSync: 2, suspendMs, legRetryMs: 1, legRetryMsMax: 1 }
  const head = await new Head(legs, store, quick).open()
  await head.inSync('a', 'b')
  await write(head.device, 0, pattern(1))
  await flush(head.device)
  const { volume } = head.driver as unknown as Inner
  b.hold = atStart
  const first = outcome(write(head.device, 0, pattern(2)))
  await later(10)
  b.goAway()
  b.hold = () => false
  await head.until('it waits for legs', () => volume.short.length === 1)
  // Whatever else changes the record meanwhile: another leg's state, a line of the history.
  const save = store.save.bind(store)
  let open: (() => void) | null = null
  store.save = (key, text) => {
    const { base, generation, members } = (
      key === 'm' ? JSON.parse(text) : { members: [] }
    ) as Record<string, never> & { members: { state: string }[] }
    const isLastOfJoining =
      key === 'm' &&
      members.every(({ state }) => state === 'in-sync') &&
      JSON.stringify(base) === JSON.stringify(generation)
    const done = save(key, text)
    if (isLastOfJoining && open === null) {
      volume.membership.request('record')
      open = store.shut()
    }
    return done
  }
  b.comeBack()
  await head.until('b is in sync', () => volume.readable.length === 2)
  await later(10)
  b.goAway()
  await later(suspendMs / 2)
  open!()
  await later(30)
  return { a, b, head, volume, first }
}

describe('a write that waits for more legs twice', () => {
  it('is counted once', async () => {
    const { volume } = await shortTwice(2000)
    expect(volume.short.length).to.equal(1)
  })

  it('fails when its time is over, and no other write with it', async () => {
    const { a, b, head, first } = await shortTwice(800)
    expect(await first).to.equal('UNAVAILABLE')
    b.comeBack()
    await head.inSync('a', 'b')
    a.hold = atStart
    const second = outcome(write(head.device, 0, pattern(3)))
    const ended = await Promise.race([second, later(1000).then(() => 'under way')])
    expect(ended, 'a has not answered').to.equal('under way')
  })
})

describe('a write that takes the place of one that failed while it was under way', () => {
  it('is acknowledged only once every leg has it', async () => {
    const { a, b, head, first } = await shortTwice(800)
    expect(await first).to.equal('UNAVAILABLE')
    b.comeBack()
    await head.inSync('a', 'b')
    a.hold = ({ operation, offset }) => operation === Operation.write && offset < 16384
    const second = outcome(write(head.device, 8192, pattern(3)))
    const ended = await Promise.race([second, later(1000).then(() => 'under way')])
    if (ended === 'under way') return
    // It failed though nobody failed it, and its job is free: the next write gets that.
    const third = outcome(write(head.device, 0, pattern(4)))
    await later(20)
    // Only what was the second's is answered.
    a.letGo(({ offset }) => offset === 8192)
    const told = await Promise.race([third, later(100).then(() => 'under way')])
    expect([told, a.cached[0], b.cached[0]], 'what a and b have').to.deep.equal(['done', 4, 4])
  })
})
