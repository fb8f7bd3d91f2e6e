import { expect } from 'chai'
import { flush, read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, Head, later, MemoryStore, pattern } from './head.ts'
import { UnreadStore } from './unread-store.ts'

const patient = { legRetryMs: 60_000, legRetryMsMax: 60_000 }

let boots = 0

/** The machine of a disk without a name restarts: it is another device then, with all it has. */
function rebootNameless(disk: Disk): void {
  boots++
  const id = boots.toString(16).padStart(32, '9')
  Object.assign(disk, { cached: Buffer.from(disk.stable), bootId: id, identity: id })
}

/** The target of the leg lost what was not flushed, and is the same device. */
function reboot(disk: Disk): void {
  boots++
  const bootId = boots.toString(16).padStart(32, '8')
  Object.assign(disk, { cached: Buffer.from(disk.stable), bootId })
}

describe('a start by the head’s own record after everything lost power', () => {
  for (const names of [
    ['a', 'b'],
    ['a', 'b', 'c'],
  ])
    it(`waits for no nameless disk that is there with all it had: ${names.join()}`, async () => {
      const legs = disks(...names)
      const store = new MemoryStore()
      const first = await new Head(legs, store).open()
      await first.inSync(...names)
      await write(first.device, 0, pattern(1))
      await flush(first.device)
      await write(first.device, 0, pattern(2))
      first.kill()
      // The last one has a name, as an NBD server or a remote file; the others have none.
      for (const name of names) {
        const disk = legs[name]!
        if (name === names.at(-1)) reboot(disk)
        else rebootNameless(disk)
      }
      const next = await new Head(legs, store, patient).open()
      await later(100)
      expect(String(next.driver.describe()['reason'])).to.equal('')
      expect((await read(next.device, 0, 4096))[0]).to.equal(1)
    })

  it('waits for no disk without a name beside an NBD server that kept its cache', async () => {
    const legs = disks('a', 'n')
    const { n } = legs
    n!.restarts = 0
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await first.inSync('a', 'n')
    await write(first.device, 0, pattern(1))
    await flush(first.device)
    await write(first.device, 0, pattern(2))
    first.kill()
    rebootNameless(legs['a']!)
    // NBD: every session counts as one that lost its cache.
    n!.bootId = '7'.repeat(32)
    n!.restarts = 1
    const next = await new Head(legs, store, patient).open()
    await later(100)
    expect(String(next.driver.describe()['reason'])).to.equal('')
    expect(next.device.usable).to.equal(true)
  })

  it('waits for an NBD server that has another name, and may have kept its cache', async () => {
    const legs = disks('a', 'n')
    const n = legs['n']!
    n.restarts = 0
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    await first.inSync('a', 'n')
    await write(first.device, 0, pattern(1))
    await flush(first.device)
    await write(first.device, 0, pattern(2))
    first.kill()
    reboot(legs['a']!)
    // It grew, or has another address in the configuration; each session is another boot.
    Object.assign(n, { identity: '6'.repeat(32), bootId: '7'.repeat(32) })
    const next = await new Head(legs, store, patient).open()
    await later(100)
    expect(String(next.driver.describe()['reason'])).to.include('another device is in its place')
    expect(n.cached[0]).to.equal(2)
  })
})

describe('a head of which a file stays unread, after an operator’s word', () => {
  for (const file of ['m_head', 'm_marks', 'm_above'])
    it(`goes on by itself after the last leg was away for a moment: ${file}`, async () => {
      const legs = disks('a', 'b')
      const store = new UnreadStore()
      const first = await new Head(legs, store).open()
      await first.inSync('a', 'b')
      await write(first.device, 0, pattern(1))
      await flush(first.device)
      await first.driver.claim(77)
      await first.device.close()
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
      await later(30)
      for (const disk of Object.values(legs)) disk.comeBack()
      await later(300)
      expect(next.driver.describe()['reason']).to.equal('')
      expect((await read(next.device, 0, 4096))[0]).to.equal(1)
    })
})
