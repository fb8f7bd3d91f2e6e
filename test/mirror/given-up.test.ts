import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { StorageError } from '../../src/base/errors.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockOffset } from '../../src/mirror/layout.ts'
import type { Volume } from '../../src/mirror/volume.ts'
import { flush, read, write } from '../support/io.ts'
import { Disk, DiskDriver } from './disk.ts'
import { answer, disks, Head, later, MemoryStore, outcome, pattern } from './head.ts'

type Asked = Parameters<Disk['hold']>[0]

const impatient = { legTimeoutMs: 100 }

async function ready(settings: object = impatient, store = new MemoryStore()) {
  const legs = disks('a', 'b')
  const head = await new Head(legs, store, settings).open()
  const mapsFrom = head.device.facts!.size
  await write(head.device, 0, pattern(1))
  await flush(head.device)
  return { head, a: legs['a']!, b: legs['b']!, mapsFrom }
}

function isSuperblock({ size }: Disk, { operation, offset }: Asked): boolean {
  const slots = [0, 1].map((slot) => superblockOffset(size, slot))
  return operation === Operation.write && slots.includes(offset)
}

/** The disk keeps what the head writes to its maps after the flush before it is detached. */
function keepMaps(disk: Disk, mapsFrom: number): void {
  let leaving = false
  disk.hold = ({ operation, offset }) => {
    leaving ||= operation === Operation.flush
    return leaving && operation === Operation.write && offset === mapsFrom
  }
}

/** What is under way is over: then the leg is nobody's, and not before. */
async function isFreeOnlyThen(head: Head, disk: Disk): Promise<void> {
  expect(head.leg('b')['pending'], 'it is under way').to.be.above(0)
  expect(disk.epoch, 'it is claimed').to.be.above(0)
  disk.letGo()
  await head.until('it is given up', () => disk.epoch === 0)
  expect(head.leg('b')['pending']).to.equal(0)
  await head.device.close()
}

describe('a detached leg with a write under way is given up when that is over', () => {
  it('after a detach that says so', async () => {
    const { head, b, mapsFrom } = await ready()
    keepMaps(b, mapsFrom)
    expect(await answer(head.driver.detachLeg('b'))).to.include('still under way')
    await isFreeOnlyThen(head, b)
  })

  it('after a detach whose superblock is under way', async () => {
    const { head, b } = await ready()
    let leaving = false
    b.hold = (asked) => {
      leaving ||= asked.operation === Operation.flush
      return leaving && isSuperblock(b, asked)
    }
    expect(await answer(head.driver.detachLeg('b'))).to.include('still under way')
    await isFreeOnlyThen(head, b)
  })

  it('after a detach whose last flush is under way', async () => {
    const { head, b } = await ready()
    let flushes = 0
    b.hold = ({ operation }) => operation === Operation.flush && ++flushes > 1
    expect(await answer(head.driver.detachLeg('b'))).to.include('still under way')
    await isFreeOnlyThen(head, b)
  })

  it('after an export', async () => {
    const { head, b, mapsFrom } = await ready()
    keepMaps(b, mapsFrom)
    expect(await answer(head.driver.exportLeg('b'))).to.include('still under way')
    await isFreeOnlyThen(head, b)
  })

  it('after an attach that is refused because of it', async () => {
    const { head, b, mapsFrom } = await ready()
    keepMaps(b, mapsFrom)
    await answer(head.driver.detachLeg('b'))
    expect(await answer(head.driver.attachLeg('b'))).to.include('still under way')
    await isFreeOnlyThen(head, b)
  })

  for (const [command, run] of [
    ['attach', (head: Head) => head.driver.attachLeg('b')],
    ['trust', (head: Head) => head.driver.trustLeg('b')],
  ] as const)
    it(`after a command that its superblock takes too long for: ${command}`, async () => {
      const { head, b } = await ready()
      await head.driver.detachLeg('b')
      expect(b.epoch).to.equal(0)
      b.hold = (asked) => isSuperblock(b, asked)
      await answer(run(head))
      await isFreeOnlyThen(head, b)
    })
})

describe('a detached leg that was not given up yet', () => {
  async function detaching() {
    const all = await ready()
    keepMaps(all.b, all.mapsFrom)
    expect(await answer(all.head.driver.detachLeg('b'))).to.include('still under way')
    return all
  }

  it('is given up although the volume does not run', async () => {
    const { head, a, b } = await detaching()
    a.goAway()
    await head.until('it is suspended', () => head.driver.describe()['volume'] === 'suspended')
    b.letGo()
    await head.until('it is given up', () => b.epoch === 0)
    a.comeBack()
    await head.inSync('a')
    await head.device.close()
  })

  it('is given up when it is back, if its link broke', async () => {
    const { head, b } = await detaching()
    const device = head.legs.get('b')!
    const { driver } = device
    const claim = driver.claim!.bind(driver)
    // As a remote does without a session.
    driver.claim = (epoch) =>
      device.usable
        ? claim(epoch)
        : Promise.reject(new StorageError('UNAVAILABLE', 'the remote is away'))
    b.goAway()
    await head.until('it is over', () => head.leg('b')['pending'] === 0)
    expect(b.epoch, 'it is claimed').to.be.above(0)
    b.hold = () => false
    b.comeBack()
    await head.until('it is given up', () => b.epoch === 0)
    await head.device.close()
  })

  it('is kept when it is in sync again', async () => {
    const { head, a, b } = await detaching()
    a.goAway()
    await head.until('it is suspended', () => head.driver.describe()['volume'] === 'suspended')
    b.letGo()
    await head.until('it is over', () => head.leg('b')['pending'] === 0)
    await head.driver.startVolume({ force: true, leg: 'b' })
    a.comeBack()
    await head.inSync('a', 'b')
    // A detach that comes to nothing, because the other leg leaves meanwhile.
    let drains = false
    b.hold = ({ operation }) => {
      const first = operation === Operation.flush && !drains
      drains ||= first
      return first
    }
    const said = answer(head.driver.detachLeg('b'))
    await head.until('it drains', () => drains)
    a.goAway()
    await head.until('a has left', () => head.state('a') === 'missing')
    b.letGo()
    expect(await said).to.include('the only leg')
    await later(50)
    expect([head.state('b'), b.epoch > 0]).to.deep.equal(['in-sync', true])
    await head.device.close()
  })
})

describe('a leg whose detaching is done', () => {
  it('is free, also while it is read', async () => {
    const { head, b } = await ready({ legTimeoutMs: 5000 })
    let held = false
    b.hold = ({ operation, offset }) => {
      const holds = operation === Operation.read && offset === 8192
      held ||= holds
      return holds
    }
    const reading = [1, 2, 3, 4].map(() => outcome(read(head.device, 8192, 4096)))
    await head.until('it is read', () => held)
    await head.driver.detachLeg('b')
    expect(b.epoch).to.equal(0)
    b.letGo()
    await Promise.all(reading)
    await head.device.close()
  })
})

describe('a leg that was removed', () => {
  it('is not added again, over a link of its own, before all has landed', async () => {
    const { head, b } = await ready()
    let held = 0
    b.hold = ({ operation, offset }) =>
      operation === Operation.write && offset === 0 && held++ === 0
    await write(head.device, 0, pattern(2))
    await head.until('it has left', () => head.state('b') === 'missing')
    const removing = head.driver.removeLeg('b')
    await head.until('it is no leg', () => head.driver.deviceOf('b') === undefined)
    const device = new Device('m/c', new DiskDriver(b), systemClock)
    await device.open()
    const add = () => answer(head.driver.addLeg({ name: 'c', device }))
    expect(await add()).to.include('still under way')
    b.letGo()
    await removing
    expect(await add()).to.equal('done')
    await head.inSync('a', 'c')
    await head.device.close()
  })
})

describe('a leg that is exported', () => {
  it('is given up also when its metadata are erased in several pieces', async () => {
    const { head, b, mapsFrom } = await ready()
    const { volume } = head.driver as unknown as { volume: Volume }
    const leg = volume.legs.find(({ name }) => name === 'b')!
    const zero = leg.zero.bind(leg)
    leg.zero = async (offset, length) => {
      for (let at = 0; at < length; at += 64 * KiB)
        await zero(offset + at, Math.min(64 * KiB, length - at))
    }
    let held = 0
    b.hold = ({ operation, offset }) =>
      operation === Operation.writeZeroes && offset >= mapsFrom && held++ === 0
    expect(await answer(head.driver.exportLeg('b'))).to.include('no answer')
    b.letGo()
    await head.until('it is given up', () => b.epoch === 0 && volume.leaving.size === 0)
    await head.device.close()
  })

  it('is given up after its metadata were erased, however long that takes', async () => {
    const { head, b, mapsFrom } = await ready()
    b.hold = ({ operation, offset }) => operation === Operation.writeZeroes && offset >= mapsFrom
    expect(await answer(head.driver.exportLeg('b'))).to.not.equal('done')
    expect(b.epoch, 'it is claimed').to.be.above(0)
    b.letGo()
    await head.until('it is given up', () => b.epoch === 0)
    await head.device.close()
  })
})

describe('a device that could not be added as a leg', () => {
  async function third(head: Head, size: number) {
    const disk = new Disk(size)
    const device = new Device('c', new DiskDriver(disk), systemClock)
    await device.open()
    const add = () => answer(head.driver.addLeg({ name: 'c', device }))
    return { disk, add }
  }

  it('is given up', async () => {
    const head = await new Head(disks('a'), new MemoryStore(), impatient).open()
    const broken = await third(head, 4 * MiB)
    broken.disk.fault = ({ operation }) =>
      operation === Operation.write ? new StorageError('IO', 'bad disk') : null
    const small = await third(head, MiB)
    for (const { disk, add } of [broken, small]) {
      expect(await add()).to.not.equal('done')
      await head.until('it is given up', () => disk.epoch === 0)
    }
    await head.device.close()
  })

  it('is not added again before what was written to it has landed', async () => {
    const head = await new Head(disks('a'), new MemoryStore(), impatient).open()
    const { disk, add } = await third(head, 4 * MiB)
    let held = 0
    disk.hold = (asked) => isSuperblock(disk, asked) && held++ === 0
    expect(await add()).to.include('left')
    expect(await add()).to.include('still under way')
    expect(disk.epoch, 'it is claimed').to.be.above(0)
    disk.letGo()
    await head.until('it is given up', () => disk.epoch === 0)
    expect(await add()).to.equal('done')
    await head.inSync('a', 'c')
    await head.device.close()
  })
})

describe('a detached leg that could not be given up', () => {
  it('is asked again, though it was there all the time', async () => {
    const { head, b } = await ready()
    let asked = 0
    b.onClaim = () =>
      ++asked < 5 ? Promise.reject(new StorageError('IO', 'cannot be saved')) : Promise.resolve()
    await head.driver.detachLeg('b')
    expect(b.epoch, 'it is claimed').to.be.above(0)
    await head.until('it is given up', () => b.epoch === 0)
    await head.device.close()
  })

  it('is given up once the volume runs again, if it had stopped in the midst of it', async () => {
    const store = new MemoryStore()
    const { head, a, b } = await ready(impatient, store)
    const save = store.save.bind(store)
    let detaching = false
    store.save = (key, text) => {
      detaching ||= text.includes('"detached"')
      return save(key, text)
    }
    let held = false
    a.hold = (asked) => {
      held = detaching && isSuperblock(a, asked)
      return held
    }
    const said = answer(head.driver.detachLeg('b'))
    await head.until('it is saved', () => held)
    a.goAway()
    expect(await said).to.include('left before it could be detached')
    a.hold = () => false
    a.comeBack()
    await head.inSync('a')
    await head.until('it runs again', () => head.state('b') === 'detached')
    await head.until('it is given up', () => b.epoch === 0)
    await head.device.close()
  })

  it('is given up by the next process of its head', async () => {
    const store = new MemoryStore()
    const { head, a, b } = await ready(impatient, store)
    let isAsked = false
    b.onClaim = () => {
      isAsked = true
      return new Promise(() => undefined)
    }
    void answer(head.driver.detachLeg('b'))
    await head.until('it is being given up', () => isAsked)
    head.kill()
    b.onClaim = () => Promise.resolve()
    const next = await new Head({ a, b }, store, impatient).open()
    expect(next.state('b')).to.equal('detached')
    await next.until('it is given up', () => b.epoch === 0)
    await next.device.close()
  })

  it('is left to another head that has claimed it since', async () => {
    const store = new MemoryStore()
    const { head, a, b } = await ready(impatient, store)
    await head.driver.detachLeg('b')
    await head.device.close()
    b.epoch = b.last = b.last + 1
    const next = await new Head({ a, b }, store, impatient).open()
    await next.inSync('a')
    await later(50)
    expect(b.epoch).to.equal(b.last)
    await next.device.close()
  })
})

describe('a detached leg that is to be added once more', () => {
  it('stays free, as what was refused', async () => {
    const { head, b } = await ready()
    await head.driver.detachLeg('b')
    const device = new Device('m/c', new DiskDriver(b), systemClock)
    await device.open()
    expect(await answer(head.driver.addLeg({ name: 'c', device }))).to.not.equal('done')
    await head.until('it is given up', () => b.epoch === 0)
    await head.device.close()
  })
})

describe('a detached leg that takes no answer to its giving up', () => {
  /** Has leg b answer so when it is given up. */
  function givingUp(head: Head, how: () => Promise<void> | null): void {
    const { driver } = head.legs.get('b')!
    const claim = driver.claim!.bind(driver)
    driver.claim = (epoch) => (epoch === 0 ? how() : null) ?? claim(epoch)
  }

  function failingOnce(): () => Promise<void> | null {
    let asked = 0
    const error = new StorageError('IO', 'the state directory is full')
    return () => (asked++ === 0 ? Promise.reject(error) : null)
  }

  it('is not given up while it is erased, though that was due before its export', async () => {
    const { head, b, mapsFrom } = await ready()
    const { volume } = head.driver as unknown as { volume: Volume }
    const leg = volume.legs.find(({ name }) => name === 'b')!
    givingUp(head, failingOnce())
    await head.driver.detachLeg('b')
    let erases = false
    b.hold = ({ operation, offset }) => {
      const isErasing = operation === Operation.writeZeroes && offset >= mapsFrom
      erases ||= isErasing
      return isErasing
    }
    let go: () => void = () => undefined
    const busy = volume.control.run(() => new Promise<void>((resolve) => (go = resolve)))
    const exporting = answer(head.driver.exportLeg('b'))
    volume.hooks.onLeaving(leg)
    await head.until('it may be asked again', () => leg.backOff.isOver)
    go()
    await busy
    await head.until('it is erased', () => erases)
    await head.driver.startVolume()
    expect(b.epoch, 'it is claimed').to.be.above(0)
    b.letGo()
    await exporting
    await head.until('it is given up', () => b.epoch === 0 && volume.leaving.size === 0)
    await head.device.close()
  })

  it('holds up no commands when it comes and goes', async () => {
    const { head, b } = await ready()
    let asked = 0
    givingUp(head, () => {
      asked++
      return new Promise(() => undefined)
    })
    await head.driver.detachLeg('b')
    for (let times = 0; times < 20; times++) {
      b.goAway()
      b.comeBack()
    }
    await head.driver.startVolume()
    expect(asked).to.be.below(5)
    await head.device.close()
  })
})
