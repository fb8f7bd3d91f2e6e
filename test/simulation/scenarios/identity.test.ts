import { crc32 } from 'node:zlib'
import { expect } from 'chai'
import type { StorageError } from '../../../src/base/errors.ts'
import { superblockOffset } from '../../../src/mirror/layout.ts'
import type { EffectKind } from '../effects.ts'
import type { Medium } from '../medium.ts'
import { otherSide, Stage } from '../stage.ts'

/** Makes both superblocks be of another format, as if its program had written them. */
function asVersion(medium: Medium, version: number): void {
  for (const slot of [0, 1]) {
    const at = superblockOffset(medium.size, slot)
    const length = medium.content.readUInt32LE(at + 12)
    const bytes = Buffer.from(medium.content.subarray(at, at + 32 + length))
    bytes.writeUInt32LE(version, 8)
    bytes.writeUInt32LE(crc32(bytes.subarray(32), crc32(bytes.subarray(0, 24))), 24)
    medium.write(at, bytes)
  }
  medium.flush(medium.order)
}

describe('scenarios: upgrade', () => {
  for (const [version, word] of [
    [2, 'a newer'],
    [0, 'an older'],
  ] as const)
    it(`a leg of ${word} format is refused, and left as it is`, async () => {
      const stage = await new Stage({ hold: 50 }).start()
      expect(await stage.write(0, 64)).to.equal(null)
      stage.killTarget('right')
      expect(await stage.write(0, 8)).to.equal(null)
      const { medium } = stage.leg('right')
      asVersion(medium, version)
      const before = Buffer.from(medium.content)
      stage.startTarget('right')
      await stage.legIs('right', 'failed')
      expect(stage.world.legStatus()['right']!.reason).to.include(`${word} version, ${version}`)
      stage.killHead()
      stage.startHead()
      await stage.until('the volume is usable', () => stage.world.head!.device.usable)
      expect(stage.legs['right']).to.equal('failed')
      expect(await stage.write(0, 8)).to.equal(null)
      expect(before.equals(medium.content), 'nothing is written to it').to.equal(true)
      await stage.result(stage.mirror.attachLeg('right', { discard: true }))
      await stage.healthy()
      await stage.audit()
    })

  it('a volume of a newer format only is not created anew', async () => {
    const stage = await new Stage({ hold: 50 }).start()
    stage.killHead()
    stage.world.state.texts.clear()
    for (const name of ['left', 'right']) asVersion(stage.leg(name).medium, 2)
    const before = stage.world.legs.map(({ medium }) => Buffer.from(medium.content))
    stage.startHead()
    await stage.pass(5000)
    expect(stage.world.head!.device.usable).to.equal(false)
    expect(stage.world.head!.device.state.reason).to.include('newer version')
    for (const [at, { medium }] of stage.world.legs.entries())
      expect(before[at]!.equals(medium.content)).to.equal(true)
  })
})

describe('scenarios: split brain', () => {
  it('split-brain: two heads by an operator’s word; found, told in bytes, discarded', async () => {
    const stage = await new Stage({ hold: 50 }).start()
    const { world } = stage
    expect(await stage.write(0, 64)).to.equal(null)
    const older = world.head!
    const [name, right] = ['head2', 'right']
    // The older head keeps left, the newer one can reach right alone.
    stage.partition(right)
    for (const [from, to] of [
      [name, 'left'],
      ['left', name],
    ] as const)
      world.network.cut(from, to)
    stage.takeOver()
    expect(world.headMachine.name).to.equal(name)
    await stage.pass(1000)
    expect(world.head!.device.usable).to.equal(false)
    await stage.result(stage.mirror.startVolume({ force: true }))
    expect(await stage.write(0, 8)).to.equal(null)
    const other = otherSide(stage, older)
    other.write(256, 8)
    other.write(640, 8)
    await stage.until('the other side acknowledges', () => other.inFlight === 0)
    expect(other.errors).to.equal(0)
    world.endRivals()
    for (const [from, to] of [
      [name, 'left'],
      ['left', name],
    ] as const)
      world.network.heal(from, to)
    await stage.legIs('left', 'failed')
    const { reason } = world.legStatus()['left']!
    expect(reason).to.match(/split brain/)
    expect(reason).to.match(/up to \d+ bytes that the volume lacks, the volume up to \d+/)
    const refusal = await stage.result(stage.mirror.attachLeg('left')).then(
      () => '',
      (error: unknown) => (error as StorageError).message,
    )
    expect(refusal).to.match(/split brain/)
    await stage.result(stage.mirror.attachLeg('left', { discard: true }))
    await stage.healthy()
    await stage.audit()
  })
})

describe('scenarios: a leg', () => {
  it('that was restored from an older copy of itself is filled', async () => {
    for (const cold of [false, true]) {
      const stage = await new Stage({ hold: 50, settings: { intentIdleMs: 20 } }).start()
      const { medium } = stage.leg('right')
      let copy = Buffer.alloc(0)
      for (let turn = 0; turn < 2; turn++) {
        copy = Buffer.from(medium.content)
        expect(await stage.write(0, 64)).to.equal(null)
        expect(await stage.flush()).to.equal(null)
        await stage.pass(200)
      }
      if (cold) stage.killHead()
      stage.killTarget('right')
      medium.replace()
      medium.write(0, copy)
      medium.flush(medium.order)
      stage.startTarget('right')
      if (cold) stage.startHead()
      await stage.pass(2000)
      await stage.healthy()
      await stage.audit()
    }
  })

  /** Another disk with these bytes, while neither the head nor the target is there. */
  function put(stage: Stage, name: string, bytes: Buffer): void {
    const { medium } = stage.leg(name)
    stage.killTarget(name)
    medium.replace()
    medium.write(0, bytes)
    medium.flush(medium.order)
    stage.startTarget(name)
  }

  async function written(stage: Stage): Promise<void> {
    expect(await stage.write(0, 64)).to.equal(null)
    expect(await stage.flush()).to.equal(null)
    await stage.pass(200)
  }

  it('that is exchanged for an older copy of itself before it is claimed is filled', async () => {
    const stage = await new Stage().start()
    const { effects, state } = stage.world
    const { medium } = stage.leg('left')
    await written(stage)
    const copy = Buffer.from(medium.content)
    await written(stage)
    stage.killHead()
    // It has looked at the legs, and makes durable what it claims them with.
    state.slowness = 1000
    const exchange = (kind: EffectKind): void => {
      if (kind !== 'save') return
      effects.unwatch(exchange)
      state.slowness = 1
      medium.replace()
      medium.write(0, copy)
      medium.flush(medium.order)
      medium.announce()
    }
    effects.watch(exchange)
    stage.startHead()
    await stage.healthy()
    await stage.audit()
  })

  it('whose copy is in the place of another goes on, and the copy is refused', async () => {
    const stage = await new Stage({ hold: 50, settings: { intentIdleMs: 20 } }).start()
    await written(stage)
    stage.killHead()
    put(stage, 'left', stage.leg('right').medium.content)
    stage.startHead()
    await stage.until('the volume is usable', () => stage.world.head!.device.usable)
    expect(stage.legs).to.deep.equal({ left: 'failed', right: 'in-sync' })
    expect(stage.world.legStatus()['left']!.reason).to.include('a copy of leg right')
    await written(stage)
    await stage.result(stage.mirror.attachLeg('left', { discard: true }))
    await stage.healthy()
    await stage.audit()
  })

  it('that cannot be told from its copy is not used, and neither is the copy', async () => {
    const stage = await new Stage({ hold: 50, settings: { intentIdleMs: 20 } }).start()
    await written(stage)
    const older = Buffer.from(stage.leg('right').medium.content)
    // No mark is written meanwhile: by their superblocks both are the same.
    expect(await stage.write(0, 64)).to.equal(null)
    expect(await stage.flush()).to.equal(null)
    stage.killHead()
    const newest = Buffer.from(stage.leg('right').medium.content)
    put(stage, 'left', newest)
    put(stage, 'right', older)
    stage.startHead()
    await stage.pass(2000)
    expect(stage.world.head!.device.usable).to.equal(false)
    for (const name of ['left', 'right'])
      expect(stage.world.legStatus()[name]!.reason).to.include('which is the original nobody knows')
    // The operator knows.
    stage.killHead()
    put(stage, 'left', Buffer.alloc(newest.length))
    put(stage, 'right', newest)
    stage.startHead()
    await stage.legIs('left', 'failed')
    await stage.result(stage.mirror.attachLeg('left', { replace: true }))
    await stage.healthy()
    await stage.audit()
  })
})

describe('scenarios: a new volume', () => {
  it('on disks that were wiped and are still claimed waits for the operator', async () => {
    const stage = await new Stage({ hold: 50 }).start()
    expect(await stage.write(0, 64)).to.equal(null)
    stage.killTarget('right')
    await stage.legIs('right', 'missing')
    stage.startTarget('right')
    await stage.healthy()
    stage.killHead()
    stage.world.state.texts.clear()
    for (const name of ['left', 'right']) {
      const { medium } = stage.leg(name)
      medium.write(0, Buffer.alloc(medium.size))
      medium.flush(medium.order)
    }
    stage.startHead()
    await stage.pass(5000)
    expect(stage.world.head!.device.state.word).to.equal('failed')
    expect(stage.world.head!.device.state.reason).to.include('newer head')
    for (let turn = 0; turn < 3 && !stage.world.head!.device.usable; turn++)
      await stage.result(stage.mirror.startVolume({ force: true }).catch(() => undefined))
    await stage.healthy()
    expect(stage.mirror.history().some(({ text }) => text.includes('new volume'))).to.equal(true)
  })
})
