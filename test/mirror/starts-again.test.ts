import { expect } from 'chai'
import { flush, read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { disks, Head, later, MemoryStore, pattern } from './head.ts'

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

/** A head dies with ones flushed, and twos acknowledged on all of the legs. */
async function crashed(...names: string[]) {
  const legs = disks(...names)
  // NBD: every session counts as one that lost its cache.
  if (legs['n'] !== undefined) legs['n'].restarts = 0
  const store = new MemoryStore()
  const first = await new Head(legs, store).open()
  await first.inSync(...names)
  await write(first.device, 0, pattern(1))
  await flush(first.device)
  await write(first.device, 0, pattern(2))
  first.kill()
  return { legs, store }
}

/** The next start, and why it waits. */
async function started({ legs, store }: Awaited<ReturnType<typeof crashed>>) {
  const head = await new Head(legs, store, patient).open()
  await later(100)
  return { head, reason: String(head.driver.describe()['reason']) }
}

describe('a start by the head’s own record after everything lost power', () => {
  for (const names of [
    ['a', 'b'],
    ['a', 'b', 'c'],
  ])
    it(`waits for no nameless disk that is there with all it had: ${names.join()}`, async () => {
      const all = await crashed(...names)
      // The last one has a name, as an NBD server or a remote file; the others have none.
      for (const name of names) {
        const disk = all.legs[name]!
        if (name === names.at(-1)) reboot(disk)
        else rebootNameless(disk)
      }
      const { head, reason } = await started(all)
      expect(reason).to.equal('')
      expect((await read(head.device, 0, 4096))[0]).to.equal(1)
    })

  it('waits for no disk without a name beside an NBD server that kept its cache', async () => {
    const all = await crashed('a', 'n')
    rebootNameless(all.legs['a']!)
    Object.assign(all.legs['n']!, { bootId: '7'.repeat(32), restarts: 1 })
    const { head, reason } = await started(all)
    expect(reason).to.equal('')
    expect(head.device.usable).to.equal(true)
  })

  it('waits for an NBD server that has another name, and may have kept its cache', async () => {
    const all = await crashed('a', 'n')
    const n = all.legs['n']!
    reboot(all.legs['a']!)
    // It grew, or has another address in the configuration; each session is another boot.
    Object.assign(n, { identity: '6'.repeat(32), bootId: '7'.repeat(32) })
    const { reason } = await started(all)
    expect(reason).to.include('another device is in its place')
    expect(n.cached[0]).to.equal(2)
  })
})
