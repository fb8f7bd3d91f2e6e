import { expect } from 'chai'
import { write } from '../support/io.ts'
import { StorageError } from '../../src/base/errors.ts'
import { MiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import { Disk } from './disk.ts'
import { disks, failing, Head, MemoryStore, outcome } from './head.ts'

const block = Buffer.alloc(4096, 1)

describe('the claims of a mirror', () => {
  it('end where a leg is given away, and are made again when it returns', async () => {
    const legs = disks('a', 'b', 'c')
    const store = new MemoryStore()
    const first = await new Head(legs, store).open()
    const { a, b, c } = legs
    expect([a!.epoch, b!.epoch, c!.epoch].every((epoch) => epoch > 0)).to.equal(true)
    await first.driver.detachLeg('b')
    await first.driver.removeLeg('c')
    expect([b!.epoch, c!.epoch], 'anybody may write to them').to.deep.equal([0, 0])
    await first.device.close()
    const second = await new Head({ a: a!, b: b! }, store).open()
    expect(second.state('b')).to.equal('detached')
    expect(b!.epoch, 'also after a restart of the head').to.equal(0)
    await second.driver.attachLeg('b')
    expect(b!.epoch).to.equal(a!.epoch)
    await second.inSync('a', 'b')
    await second.device.close()
  })

  it('are above those of a head that died before or after it had a generation', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    const { a, b } = legs
    await (await new Head(legs, store).open()).device.close()
    // It dies while it starts.
    for (const disk of [a!, b!]) disk.hold = ({ operation }) => operation === Operation.flush
    const first = new Head(legs, store)
    void first.open()
    await first.until('it starts', () => first.driver.describe()['volume'] === 'starting')
    first.kill()
    const died = a!.claims.length
    // It starts with the generation of an attempt that came to nothing.
    for (const disk of [a!, b!]) disk.hold = () => false
    let down = true
    failing(a!, (operation) => down && operation === Operation.write)
    failing(b!, (operation) => down && operation === Operation.write)
    const second = await new Head(legs, store).open()
    await second.until('it waits', () => second.driver.describe()['volume'] === 'waiting')
    down = false
    await second.inSync('a', 'b')
    second.kill()
    const diedAgain = a!.claims.length
    const third = await new Head(legs, store).open()
    await third.inSync('a', 'b')
    const claims = [...a!.claims]
    expect(claims, JSON.stringify(claims)).to.deep.equal(claims.toSorted((one, two) => one - two))
    for (const at of [died, diedAgain])
      expect(claims[at]! > claims[at - 1]!, JSON.stringify(claims)).to.equal(true)
    await third.device.close()
  })

  it('are above what another volume gave up', async () => {
    const legs = disks('a', 'b')
    const { a, b } = legs
    const given = (b!.last = 5000 * 2 ** 20 + 77)
    const first = await new Head(legs, new MemoryStore()).open()
    await first.inSync('a', 'b')
    expect([a!.epoch > given, b!.epoch > given]).to.deep.equal([true, true])
    await write(first.device, 0, block)
    first.kill()
    const second = await new Head(legs, null).open()
    await second.inSync('a', 'b')
    await write(second.device, 0, block)
    await second.device.close()
  })

  it('leave another head what it holds, whatever was given up beside it', async () => {
    const legs = disks('a', 'b')
    const { a, b } = legs
    a!.epoch = a!.last = 100 * 2 ** 20 + 5
    b!.last = 5000 * 2 ** 20 + 77
    const head = await new Head(legs, new MemoryStore()).open()
    await head.until('it is fenced', () => head.device.state.word === 'failed')
    expect([a!.epoch, b!.epoch]).to.deep.equal([100 * 2 ** 20 + 5, 0])
    await head.device.close()
  })

  it('are above it again when the volume could not be created at once', async () => {
    const { a, b } = disks('a', 'b')
    a!.last = 5000 * 2 ** 20 + 77
    let away = true
    b!.onClaim = () =>
      away ? Promise.reject(new StorageError('UNAVAILABLE', 'the link is down')) : Promise.resolve()
    const head = await new Head({ a: a!, b: b! }, null).open()
    await head.until('it is tried', () => a!.claims.length > 0)
    away = false
    await head.inSync('a', 'b')
    await head.device.close()
  })

  it('are above it again when the head died before the volume was created', async () => {
    const legs = disks('a', 'b')
    const store = new MemoryStore()
    legs['a']!.last = 5000 * 2 ** 20 + 77
    for (const disk of [legs['a']!, legs['b']!]) disk.cached.fill(1, 0, 4096)
    const first = await new Head(legs, store).open()
    expect(first.driver.describe()['reason']).to.include('name the one that counts as source')
    first.kill()
    const second = await new Head(legs, store, { source: 'a' }).open()
    await second.inSync('a', 'b')
    await second.device.close()
  })

  it('are not raised above what another head gave up before an operator says so', async () => {
    const { a, b } = disks('a', 'b')
    const store = new MemoryStore()
    await (await new Head({ a: a!, b: b! }, store).open()).device.close()
    const replaced = new Disk(4 * MiB)
    const given = (replaced.last = 5000 * 2 ** 20 + 77)
    const legs = { a: a!, b: replaced }
    const first = await new Head(legs, store).open()
    await first.until('it is refused', () => first.leg('b').reason.includes('dst leg attach'))
    expect([replaced.claims, replaced.bytesWritten(4 * MiB)]).to.deep.equal([[], 0])
    await first.driver.attachLeg('b', { replace: true })
    await first.inSync('a', 'b')
    expect(replaced.epoch).to.be.greaterThan(given)
    expect(a!.epoch, 'where it is not needed').to.be.lessThan(given)
    replaced.goAway()
    await first.until('it is missing', () => first.state('b') === 'missing')
    replaced.comeBack()
    await first.inSync('a', 'b')
    await first.driver.detachLeg('b')
    await first.driver.attachLeg('b')
    await first.inSync('a', 'b')
    await first.device.close()
    const second = await new Head(legs, null).open()
    await second.inSync('a', 'b')
    await second.device.close()
  })

  it('of an older head that starts again stay below what the newer one gave up', async () => {
    const { a, b } = disks('a', 'b')
    const stale = new MemoryStore()
    const older = await new Head({ a: a!, b: b! }, stale).open()
    a!.goAway()
    await write(older.device, 0, block)
    older.kill()
    const newer = await new Head({ a: a!, b: b! }, null, {}, ['b']).open()
    await newer.driver.startVolume({ force: true })
    b!.last = b!.epoch = 0
    b!.comeBack()
    await newer.until('it is refused', () => newer.leg('b').reason.includes('split brain'))
    await newer.driver.removeLeg('b')
    // However many starts there were before.
    b!.last *= 5000
    const again = await new Head({ a: a!, b: b! }, stale, {}, ['a']).open()
    await again.until('it is fenced', () => again.device.state.word === 'failed')
    expect(again.device.state.reason).to.equal('a newer head has taken over')
    await again.driver.startVolume({ force: true })
    expect(b!.epoch).to.be.greaterThan(b!.last / 2)
    again.kill()
    const last = await new Head({ a: a!, b: b! }, stale, {}, ['a']).open()
    expect(last.state('b')).to.equal('in-sync')
    await last.device.close()
    await newer.device.close()
  })

  it('leave a leg alone that is not to be taken, though an operator asks for it', async () => {
    const legs = disks('a', 'b')
    const { a, b } = legs
    const stale = new MemoryStore()
    const first = await new Head(legs, stale).open()
    b!.goAway()
    await first.until('it is missing', () => first.state('b') === 'missing')
    // Another head goes on with the other leg, and gives it up.
    const second = await new Head({ b: b! }, new MemoryStore(), {}).open()
    await second.driver.startVolume({ force: true })
    await second.device.close()
    b!.last = b!.epoch * 5000
    b!.epoch = 0
    b!.claims.length = 0
    b!.comeBack()
    await first.until('it is refused', () => first.leg('b').reason.includes('split brain'))
    expect(await outcome(first.driver.attachLeg('b'))).to.equal('CONFIG')
    expect(b!.claims).to.deep.equal([])
    await first.driver.attachLeg('b', { discard: true })
    await first.inSync('a', 'b')
    expect(a!.cached.subarray(0, MiB).equals(b!.cached.subarray(0, MiB))).to.equal(true)
    await first.device.close()
  })

  it('rise above those of another volume or a dead head when an operator says so', async () => {
    const legs = disks('a')
    const first = await new Head(legs, new MemoryStore()).open()
    await write(first.device, 0, block)
    await first.device.close()
    const { a } = legs
    const claimed = (a!.epoch *= 1000)
    const second = await new Head(legs, null).open()
    await second.until('it is fenced', () => second.device.state.word === 'failed')
    await second.driver.startVolume({ force: true })
    expect(a!.epoch).to.be.greaterThan(claimed)
    await write(second.device, 0, block)
    await second.device.close()
  })
})
