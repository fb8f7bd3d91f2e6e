import { expect } from 'chai'
import { Operation } from '../../src/device/request.ts'
import { write } from '../support/io.ts'
import { Disk } from './disk.ts'
import { disks, extentSize, Head, later, MemoryStore, outcome, pattern } from './head.ts'
import { copyOf, logEmpty, put, quickLog, reads, type Legs } from './putting-back.ts'

/** Both have 2 at the beginning; what is handed back puts b back to where it had 1. */
async function withOlderCopy(legs: Legs): Promise<{ head: Head; back: () => void }> {
  const b = legs['b']!
  for (const disk of Object.values(legs)) disk.restarts = 0
  const head = await new Head(legs, new MemoryStore(), quickLog).open()
  await put(head, 1)
  await logEmpty(head)
  const putBack = copyOf(b)
  await put(head, 2)
  await logEmpty(head)
  const back = (): void => {
    putBack()
    b.restarts!++
    b.restart()
  }
  return { head, back }
}

/** Whatever becomes of it, what it has alone is not read. */
async function isNotTaken(head: Head): Promise<void> {
  expect(await outcome(head.driver.attachLeg('b'))).to.equal('CONFIG')
  await reads(head, 2)
  await head.driver.attachLeg('b', { discard: true })
  await head.inSync('a', 'b')
  await reads(head, 2)
}

describe('a detached leg that is put back', () => {
  it('before it says in itself what it is, is compared', async () => {
    const legs = disks('a', 'b')
    const { head, back } = await withOlderCopy(legs)
    const mapsFrom = head.device.facts!.size
    let held = false
    legs['a']!.hold = ({ operation, offset }) => {
      const holds =
        operation === Operation.write && offset >= mapsFrom && head.state('b') !== 'in-sync'
      held ||= holds
      return holds
    }
    const detaching = outcome(head.driver.detachLeg('b'))
    await head.until('its leaving is about to be durable', () => held)
    back()
    legs['a']!.letGo()
    legs['a']!.hold = () => false
    expect(await detaching).to.equal('UNAVAILABLE')
    expect([head.state('b'), legs['b']!.epoch]).to.deep.equal(['detached', 0])
    await isNotTaken(head)
    await head.device.close()
  })

  it('before its stamp is taken, is compared', async () => {
    const legs = disks('a', 'b')
    const { head, back } = await withOlderCopy(legs)
    let wasAsked = false
    Object.defineProperty(head.legs.get('b')!.driver, 'stamp', {
      value: () => {
        if (!wasAsked) back()
        wasAsked = true
        return Promise.resolve(`${legs['b']!.stampCount}`)
      },
    })
    expect(await outcome(head.driver.detachLeg('b'))).to.equal('UNAVAILABLE')
    await isNotTaken(head)
    await head.device.close()
  })

  it('while it is compared, is not taken for what was compared', async () => {
    const legs = disks('a', 'b')
    const [a, b] = [legs['a']!, legs['b']!]
    const { head, back } = await withOlderCopy(legs)
    Object.defineProperty(head.legs.get('b')!.driver, 'stamp', { value: undefined })
    await head.driver.detachLeg('b')
    const last = extentSize * Math.floor((head.device.facts!.size - 1) / extentSize)
    let held = false
    a.hold = ({ operation, offset }) => {
      const holds = operation === Operation.read && offset === last
      held ||= holds
      return holds
    }
    const attaching = outcome(head.driver.attachLeg('b'))
    await head.until('all but the end is compared', () => held)
    await head.until('b has been read', () => b.log.at(-1)!.offset === last)
    await later(5)
    back()
    a.letGo()
    a.hold = () => false
    expect(await attaching).to.equal('CONFIG')
    await isNotTaken(head)
    await head.device.close()
  })
})

describe('a leg that is exchanged while the word that it can be trusted waits', () => {
  it('is not trusted', async () => {
    const legs = disks('a', 'b', 'c')
    const [, b, c] = Object.values(legs)
    const head = await new Head(legs, new MemoryStore()).open()
    await write(head.device, 0, pattern(1))
    await head.driver.detachLeg('b')
    await head.driver.detachLeg('c')
    c!.hold = () => true
    const attaching = head.driver.attachLeg('c')
    const trusting = outcome(head.driver.trustLeg('b'))
    await later(5)
    b!.cached.fill(9, 0, 4096)
    b!.identity = new Disk(extentSize).identity
    b!.comeBack()
    c!.letGo()
    await attaching
    expect(await trusting).to.equal('CONFIG')
    await reads(head, 1)
    await head.device.close()
  })
})
