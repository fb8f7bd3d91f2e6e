import { expect } from 'chai'
import { DamagedError } from '../../src/base/store.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { flush, read, write } from '../support/io.ts'
import { answer, disks, Head, later, outcome, pattern } from './head.ts'
import { copyOf, logEmpty, put, quickLog } from './putting-back.ts'
import { UnreadStore } from './unread-store.ts'

const patient = { legRetryMs: 60_000, legRetryMsMax: 60_000 }
const files = ['m', 'm_head', 'm_marks', 'm_above']
const memory = files.slice(1)

/** Both legs have ones; the mirror was claimed by one above, and stopped. */
async function stopped() {
  const legs = disks('a', 'b')
  const store = new UnreadStore()
  const first = await new Head(legs, store).open()
  await first.inSync('a', 'b')
  await write(first.device, 0, pattern(1))
  await flush(first.device)
  await first.driver.claim(77)
  await first.device.close()
  return { legs, store }
}

async function servesOnes({ device }: Head): Promise<void> {
  expect((await read(device, 0, 4096))[0]).to.equal(1)
}

describe('a head that cannot read one of its files for a moment', () => {
  for (const file of files)
    it(`says so, and goes on by itself when it can, with one leg: ${file}`, async () => {
      const { legs, store } = await stopped()
      store.unread = [file]
      const next = await new Head(legs, store, {}, ['a']).open()
      await next.until('it was refused', () => store.refusedReads > 0)
      const reason = (): string => String(next.driver.describe()['reason'])
      const why = `${file} in the state directory cannot be read: too many open files`
      await next.until('it says so', () => reason().includes(why))
      store.unread = []
      await next.until('it serves', () => next.device.usable)
      await servesOnes(next)
    })

  for (const file of files)
    it(`has concluded nothing from that, where it claimed nothing: ${file}`, async () => {
      const { legs, store } = await stopped()
      const before = legs['b']!.claims.length
      const texts = await Promise.all(files.map((one) => store.load(one)))
      store.unread = [file]
      const next = await new Head(legs, store, patient, ['a']).open()
      await next.until('it was refused', () => store.refusedReads > 0)
      await later(50)
      store.unread = []
      expect(legs['b']!.claims.length, 'nothing was claimed').to.equal(before)
      expect(await Promise.all(files.map((one) => store.load(one)))).to.deep.equal(texts)
      expect(await answer(next.driver.startVolume({}))).to.equal('done')
      await servesOnes(next)
      expect(await next.driver.claimed()).to.deep.equal({ held: 77, givenUp: 0 })
    })

  it('is kept out by nobody, where it died while it started: m_head', async () => {
    const legs = disks('a', 'b')
    const store = new UnreadStore()
    await store.save('m_head', '1048000 0')
    const first = await new Head(legs, store).open()
    await first.inSync('a', 'b')
    await write(first.device, 0, pattern(1))
    await flush(first.device)
    await first.device.close()
    // It claims, and dies before a leg has a generation of it.
    const slots = [0, 1].map((slot) => superblockOffset(legs['a']!.size, slot))
    for (const disk of Object.values(legs))
      disk.hold = ({ operation, offset }) =>
        operation === Operation.flush || (operation === Operation.write && slots.includes(offset))
    const dies = new Head(legs, store)
    void dies.open()
    await dies.until('it starts', () => dies.driver.describe()['volume'] === 'starting')
    await later(20)
    dies.kill()
    for (const disk of Object.values(legs)) disk.hold = () => false
    store.unread = ['m_head']
    const next = await new Head(legs, store).open()
    await next.until('it was refused', () => store.refusedReads > 0)
    store.unread = []
    await next.until('it serves', () => next.device.usable)
    await servesOnes(next)
  })

  it('does not take a leg that was put back for whole: m_marks', async () => {
    const legs = disks('a', 'b')
    const store = new UnreadStore()
    const first = await new Head(legs, store, quickLog).open()
    await first.inSync('a', 'b')
    await put(first, 1)
    await logEmpty(first)
    const back = copyOf(legs['b']!)
    await put(first, 2)
    await logEmpty(first)
    await flush(first.device)
    await later(100)
    first.kill()
    back()
    store.unread = ['m_marks']
    const next = await new Head(legs, store, {}, ['a']).open()
    await next.until('it was refused', () => store.refusedReads > 0)
    expect(next.device.usable).to.equal(false)
    store.unread = []
    const reason = (): string => String(next.driver.describe()['reason'])
    await next.until('it is told', () => reason().includes('b was put back to an older state'))
    expect(next.device.usable, 'twos were acknowledged and flushed').to.equal(false)
  })
})

describe('a head of which a file stays unread', () => {
  for (const file of memory) {
    it(`goes on without by an operator’s word: ${file}`, async () => {
      const { legs, store } = await stopped()
      store.unread = [file]
      const next = await new Head(legs, store, patient).open()
      expect(await answer(next.driver.startVolume({}))).to.include(`${file} in the state`)
      expect(await answer(next.driver.startVolume({ force: true }))).to.equal('done')
      await servesOnes(next)
    })

    it(`reads it again where that word came to nothing: ${file}`, async () => {
      const { legs, store } = await stopped()
      store.unread = [file]
      const next = await new Head(legs, store, patient, ['a', 'b']).open()
      expect(await outcome(next.driver.startVolume({ force: true }))).to.equal('CONFIG')
      store.unread = []
      legs['b']!.comeBack()
      await next.until('it serves', () => next.device.usable)
      await servesOnes(next)
      expect(await next.driver.claimed()).to.deep.equal({ held: 77, givenUp: 0 })
    })
  }

  for (const file of files)
    it(`starts from all legs in sync where it is damaged: ${file}`, async () => {
      const { legs, store } = await stopped()
      store.unread = [file]
      store.error = new DamagedError('its checksum differs')
      const next = await new Head(legs, store).open()
      await next.inSync('a', 'b')
      await servesOnes(next)
    })

  for (const file of memory)
    it(`needs an operator's word once for all starts of a process: ${file}`, async () => {
      const { legs, store } = await stopped()
      store.unread = [file]
      // What is saved anew can be read again.
      const save = store.save.bind(store)
      store.save = async (key, text) => {
        await save(key, text)
        store.unread = store.unread.filter((one) => one !== key)
      }
      const next = await new Head(legs, store).open()
      await next.driver.startVolume({ force: true })
      await next.inSync('a', 'b')
      for (const disk of Object.values(legs)) disk.goAway()
      await next.until('it is suspended', () => next.driver.describe()['volume'] === 'suspended')
      for (const disk of Object.values(legs)) disk.comeBack()
      await next.until('it serves', () => next.device.usable)
      await servesOnes(next)
    })
})
