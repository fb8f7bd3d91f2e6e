import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { MiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockBytes, superblockOffset } from '../../src/mirror/layout.ts'
import { read, write } from '../support/io.ts'
import { Disk } from './disk.ts'
import { disks, extentSize, Head, MemoryStore, outcome, pattern } from './head.ts'

function reason(head: Head): string {
  return head.driver.describe()['reason'] as string
}

/** A volume that ran, was written to and closed. */
async function used(names: string[], store: MemoryStore): Promise<Record<string, Disk>> {
  const legs = disks(...names)
  const head = await new Head(legs, store).open()
  await write(head.device, 0, pattern(1))
  await head.device.close()
  return legs
}

/** Changes a disk behind everybody's back. */
function scribble(disk: Disk, change: (bytes: Buffer) => void): void {
  change(disk.cached)
  change(disk.stable)
}

function slotOf(disk: Disk, slot: number): number {
  return superblockOffset(disk.size, slot)
}

/** The slot with the higher serial. */
function newestSlot(disk: Disk): number {
  const serials = [0, 1].map((slot) => disk.cached.readUInt32LE(slotOf(disk, slot) + 16))
  return serials[0]! > serials[1]! ? 0 : 1
}

describe('a leg', () => {
  it('with one torn superblock goes by the other', async () => {
    const store = new MemoryStore()
    const legs = await used(['a', 'b'], store)
    const at = slotOf(legs['b']!, newestSlot(legs['b']!))
    scribble(legs['b']!, (bytes) => bytes.fill(0xee, at + 512, at + 1024))
    const head = await new Head(legs, store).open()
    await head.inSync('a', 'b')
    expect((await read(head.device, 0, 4096))[0]).to.equal(1)
    await head.device.close()
  })

  it('with both superblocks bad is refused until it may be discarded', async () => {
    const store = new MemoryStore()
    const legs = await used(['a', 'b'], store)
    const start = slotOf(legs['b']!, 0)
    scribble(legs['b']!, (bytes) => {
      bytes.fill(0xee, start + 64, start + 128)
      bytes.fill(0xee, start + superblockBytes + 64, start + superblockBytes + 128)
    })
    const head = await new Head(legs, store).open()
    expect(head.leg('b')).to.include({ state: 'failed' })
    expect(head.leg('b').reason).to.include('both superblocks are bad')
    await head.driver.attachLeg('b', { discard: true })
    await head.inSync('a', 'b')
    expect(legs['b']!.cached[0]).to.equal(1)
    await head.device.close()
  })

  it('of another volume is refused', async () => {
    const store = new MemoryStore()
    const legs = await used(['a', 'b'], store)
    const other = await used(['a', 'b'], new MemoryStore())
    const head = await new Head({ a: legs['a']!, b: other['b']! }, store).open()
    expect(head.leg('b').state).to.equal('failed')
    expect(head.leg('b').reason).to.include('another volume')
    expect((await read(head.device, 0, 4096))[0]).to.equal(1)
    await head.device.close()
  })

  it('copied over another is kept, and the copy is refused', async () => {
    const store = new MemoryStore()
    const legs = await used(['a', 'b', 'c'], store)
    scribble(legs['c']!, (bytes) => legs['b']!.cached.copy(bytes))
    const head = await new Head(legs, store).open()
    expect([head.state('a'), head.state('b'), head.state('c')]).to.deep.equal([
      'in-sync',
      'in-sync',
      'failed',
    ])
    expect(head.leg('c').reason).to.equal('it is a copy of leg b, which is there itself')
    await head.driver.attachLeg('c', { discard: true })
    await head.inSync('a', 'b', 'c')
    await head.device.close()
  })

  it('copied over the only other one is started from by the head that knows it', async () => {
    const store = new MemoryStore()
    const legs = await used(['a', 'b'], store)
    scribble(legs['a']!, (bytes) => legs['b']!.cached.copy(bytes))
    const stranger = await new Head(legs, new MemoryStore()).open()
    expect(stranger.driver.describe()['reason']).to.include('a (it is a copy of leg b')
    stranger.kill()
    const head = await new Head(legs, store).open()
    expect((await read(head.device, 0, 4096))[0]).to.equal(1)
    await head.driver.attachLeg('a', { discard: true })
    await head.inSync('a', 'b')
    await head.device.close()
  })

  it('configured twice is used under its own name', async () => {
    const store = new MemoryStore()
    const legs = await used(['a', 'b', 'c'], store)
    const head = await new Head({ ...legs, c: legs['b']! }, store).open()
    expect(head.state('b')).to.equal('in-sync')
    expect(head.leg('c').reason).to.equal('it is leg b, which is configured twice')
    expect(await outcome(head.driver.attachLeg('c', { discard: true }))).to.equal('CONFIG')
    await head.device.close()
    const again = await new Head(legs, store).open()
    await again.inSync('a', 'b')
    expect(again.lastResync('b'), 'it keeps its metadata').to.equal(undefined)
    await again.device.close()
  })

  for (const [what, change] of [
    ['was moved as well', (b: Disk) => (b.identity = new Disk(b.size).identity)],
    [
      'was put back from an older copy',
      (b: Disk, older: Buffer) => {
        scribble(b, (bytes) => older.copy(bytes))
      },
    ],
  ] as const)
    it(`copied over another is refused like its copy when it ${what}`, async () => {
      const store = new MemoryStore()
      const legs = await used(['a', 'b', 'c'], store)
      const older = Buffer.from(legs['b']!.stable)
      const between = await new Head(legs, store).open()
      await between.device.close()
      scribble(legs['c']!, (bytes) => legs['b']!.cached.copy(bytes))
      change(legs['b']!, older)
      const head = await new Head(legs, store).open()
      for (const name of ['b', 'c']) {
        expect(head.leg(name).state).to.equal('failed')
        expect(head.leg(name).reason).to.include('copy of')
      }
      await head.driver.attachLeg('c', { discard: true })
      await head.inSync('a', 'c')
      await head.device.close()
    })

  it('under the name of another is refused', async () => {
    const store = new MemoryStore()
    const legs = await used(['a', 'b', 'c'], store)
    const swapped = { a: legs['a']!, b: legs['c']!, c: legs['b']! }
    const head = await new Head(swapped, store).open()
    expect(head.leg('b').reason).to.include("the volume's leg c")
    await head.device.close()
  })

  it('that is suddenly blank is filled when an operator says that it was replaced', async () => {
    const store = new MemoryStore()
    const legs = await used(['a', 'b'], store)
    const blank = new Disk(4 * MiB)
    const head = await new Head({ a: legs['a']!, b: blank }, store).open()
    await head.until('b is looked at', () => head.state('b') === 'failed')
    expect(head.leg('b').reason).to.include('`dst leg attach m b --replace` fills it')
    expect(await outcome(head.driver.attachLeg('b'))).to.equal('CONFIG')
    expect(blank.cached.every((byte) => byte === 0)).to.equal(true)
    await head.driver.attachLeg('b', { replace: true })
    await head.inSync('a', 'b')
    expect(head.lastResync('b')).to.include({ kind: 'full', source: 'a' })
    await head.device.close()
    // The one it replaced is not taken for it.
    const again = await new Head(legs, store).open()
    await again.inSync('a', 'b')
    expect(again.lastResync('b')!.kind).to.equal('full')
    await again.device.close()
  })

  it('that is suddenly blank is known by the other legs too', async () => {
    const legs = await used(['a', 'b'], new MemoryStore())
    const head = await new Head({ a: legs['a']!, b: new Disk(4 * MiB) }, new MemoryStore()).open()
    expect(reason(head)).to.include('b (a blank device is in its place)')
    await head.driver.startVolume({ force: true })
    await head.until('b is looked at', () => head.state('b') === 'failed')
    expect(head.leg('b').reason).to.include('was a leg and is blank')
    await head.device.close()
  })

  it('that is not blank is no replacement', async () => {
    const store = new MemoryStore()
    const legs = await used(['a', 'b'], store)
    const others = await used(['a', 'b'], new MemoryStore())
    const head = await new Head({ a: legs['a']!, b: others['b']! }, store).open()
    await head.until('b is looked at', () => head.state('b') === 'failed')
    const attempt = head.driver.attachLeg('b', { replace: true })
    expect(await outcome(attempt)).to.equal('CONFIG')
    await head.device.close()
  })

  it('that became smaller is refused', async () => {
    const store = new MemoryStore()
    const legs = await used(['a', 'b'], store)
    const small = new Disk(3 * MiB)
    legs['b']!.cached.copy(small.cached)
    const head = await new Head({ a: legs['a']!, b: small }, store).open()
    await head.until('b is looked at', () => head.state('b') === 'failed')
    expect(head.leg('b').reason).to.match(/room for \d+ bytes/)
    await head.device.close()
  })

  it('with damaged maps is copied from, and costs more copying', async () => {
    const store = new MemoryStore()
    const legs = disks('a', 'b')
    const first = await new Head(legs, store).open()
    legs['b']!.goAway()
    await write(first.device, 0, pattern(1))
    first.kill()
    const { size } = first.device.facts!
    scribble(legs['a']!, (bytes) => bytes.fill(0xee, size, slotOf(legs['a']!, 0)))
    const second = await new Head(legs, store).open()
    await second.inSync('a', 'b')
    expect(second.lastResync('b')!.bytes).to.be.at.least(size)
    expect(legs['b']!.cached[0]).to.equal(1)
    await second.device.close()
  })

  it('whose metadata cannot be written leaves', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), { legRetryMs: 500 }).open()
    const { size } = head.device.facts!
    legs['b']!.fault = ({ operation, offset }) =>
      operation === Operation.write && offset >= size ? new StorageError('IO', 'worn out') : null
    await write(head.device, 0, pattern(1))
    expect(head.leg('b')).to.include({ state: 'failed' })
    expect(head.leg('b').reason).to.include('metadata: worn out')
    await head.device.close()
  })
})

describe('a volume', () => {
  it("starts with care when the head's record is damaged", async () => {
    const store = new MemoryStore()
    const legs = await used(['a', 'b'], store)
    await store.save('m', '{"volume":')
    const head = await new Head(legs, store, {}, ['b']).open()
    expect(reason(head)).to.include('b').and.to.include('could be newer')
    legs['b']!.comeBack()
    await head.inSync('a', 'b')
    await head.device.close()
  })

  it('is not created over two legs that both have data', async () => {
    const legs = disks('a', 'b')
    for (const disk of Object.values(legs)) scribble(disk, (bytes) => bytes.fill(5, 0, extentSize))
    // One head, started twice: another would have to claim more than this one did, by chance.
    const store = new MemoryStore()
    const head = await new Head(legs, store).open()
    expect(reason(head)).to.include('name the one that counts')
    await head.device.close()
    const named = await new Head(legs, store, { source: 'b' }).open()
    await named.inSync('a', 'b')
    expect(named.lastResync('a')!.source).to.equal('b')
    await named.device.close()
  })

  it('is created only when every leg is there', async () => {
    const legs = disks('a', 'b')
    const head = await new Head(legs, new MemoryStore(), {}, ['b']).open()
    expect(reason(head)).to.include('created when every leg is there').and.to.include('b')
    legs['b']!.comeBack()
    await head.inSync('a', 'b')
    await head.device.close()
  })

  it('copies no faster than it is told to', async () => {
    const legs = disks('a', 'b')
    const settings = { resyncBytesPerSecond: 4 * MiB, resyncWindow: 2 }
    const head = await new Head(legs, new MemoryStore(), settings).open()
    legs['b']!.goAway()
    await write(head.device, 0, pattern(1, 12 * extentSize))
    legs['b']!.comeBack()
    await head.inSync('b')
    const { bytes, milliseconds } = head.lastResync('b')!
    expect(bytes).to.equal(12 * extentSize)
    expect(milliseconds).to.be.at.least(((bytes - 2 * extentSize) * 1000) / (4 * MiB))
    await head.device.close()
  })
})
