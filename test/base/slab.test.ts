import { expect } from 'chai'
import fc from 'fast-check'
import { KiB, MiB } from '../../src/base/size.ts'
import { blockBytesMax, isAligned, pageBytes, Slab, type Block } from '../../src/base/slab.ts'

/** Memory and first byte of each block, to see whether two share a byte. */
function overlap(one: Block, other: Block): boolean {
  const [a, b] = [one.bytes, other.bytes]
  if (a.buffer !== b.buffer) return false
  return a.byteOffset < b.byteOffset + b.length && b.byteOffset < a.byteOffset + a.length
}

describe('the slab', () => {
  it('gives page-aligned blocks that are long enough and never share a byte', () => {
    const length = fc.oneof(
      fc.integer({ min: 1, max: 64 * KiB }),
      fc.integer({ min: 1, max: blockBytesMax }),
      fc.constantFrom(1, pageBytes, pageBytes + 1, MiB, MiB + 1, blockBytesMax),
    )
    const step = fc.record({ length, release: fc.double({ min: 0, max: 1, noNaN: true }) })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const slab = new Slab()
        const held: Block[] = []
        for (const { length: bytes, release } of steps) {
          if (held.length > 8 || (release > 0.5 && held.length > 0)) {
            const [block] = held.splice(Math.floor(release * held.length), 1)
            block?.release()
            continue
          }
          const block = slab.take(bytes)
          expect(block.bytes.length).to.be.at.least(bytes)
          expect(block.bytes.length).to.be.below(2 * Math.max(bytes, pageBytes))
          expect(isAligned(block.bytes, pageBytes)).to.equal(true)
          for (const other of held) expect(overlap(block, other)).to.equal(false)
          held.push(block)
          const sum = held.reduce((total, { bytes: view }) => total + view.length, 0)
          expect(slab.bytesHeld).to.equal(sum)
        }
        for (const block of held) block.release()
        expect(slab.bytesHeld).to.equal(0)
      }),
      { numRuns: 60 },
    )
  })

  it('gives a block back with its last hold, and not twice', () => {
    const slab = new Slab()
    const block = slab.take(1)
    block.retain()
    block.release()
    expect(slab.bytesHeld).to.equal(pageBytes)
    block.release()
    expect(slab.bytesHeld).to.equal(0)
    expect(() => block.release()).to.throw('released once per hold')
    expect(() => block.retain()).to.throw('retained by a holder')
  })

  it('makes large blocks again of small ones that were given back', () => {
    const slab = new Slab()
    const memories = new Set<ArrayBufferLike>()
    for (let size = pageBytes; size <= blockBytesMax; size *= 2) {
      // All that one arena holds, in blocks of each size in turn.
      const blocks = Array.from({ length: (64 * MiB) / size }, () => slab.take(size))
      for (const block of blocks) memories.add(block.bytes.buffer)
      for (const block of blocks) block.release()
    }
    expect(memories.size, 'arenas').to.equal(1)
  })

  it('lets parts outlive their block, and gets everything back', () => {
    const step = fc.record({
      what: fc.constantFrom('take', 'part', 'again', 'release', 'release'),
      at: fc.double({ min: 0, max: 0.999, noNaN: true }),
      order: fc.nat({ max: 6 }),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const slab = new Slab()
        const wholes: Block[] = []
        const parts: Block[] = []
        const pick = (list: Block[], at: number): Block | undefined =>
          list.splice(Math.floor(at * list.length), 1)[0]
        for (const { what, at, order } of steps) {
          const whole = wholes[Math.floor(at * wholes.length)]
          if (what === 'take') {
            const block = slab.take(pageBytes << order)
            block.final = true
            for (const other of [...wholes, ...parts]) expect(overlap(block, other)).to.equal(false)
            wholes.push(block)
          } else if (what === 'part' && whole !== undefined) {
            const length = pageBytes << Math.min(order, Math.log2(whole.bytes.length / pageBytes))
            const from = length * Math.floor((at * whole.bytes.length) / length)
            const part = whole.part(whole.bytes, from, length)
            if (part !== null) parts.push(part)
          } else if (what === 'again') {
            const part = parts[Math.floor(at * parts.length)]
            const same = part?.part(part.bytes, 0, part.bytes.length)
            if (same != null) parts.push(same)
          } else (pick(at < 0.5 ? wholes : parts, at) ?? pick(wholes, 0))?.release()
        }
        for (const block of [...wholes, ...parts]) block.release()
        expect(slab.bytesHeld).to.equal(0)
        expect(slab.bytesInParts).to.equal(0)
        const memories = new Set<ArrayBufferLike>()
        for (const block of [slab.take(blockBytesMax), slab.take(blockBytesMax)])
          memories.add(block.bytes.buffer)
        expect(memories.size, 'all in one piece again').to.equal(1)
      }),
      { numRuns: 200 },
    )
  })

  it('gives no part of what may be written to again, nor one that is no block', () => {
    const block = new Slab().take(64 * KiB)
    expect(block.part(block.bytes, 0, block.bytes.length)).to.equal(null)
    block.final = true
    const { bytes } = block
    for (const wrong of [
      bytes.subarray(0, 12_288),
      bytes.subarray(4096, 12_288),
      bytes.subarray(100, 4196),
      Buffer.alloc(4096),
    ])
      expect(block.part(wrong, 0, wrong.length)).to.equal(null)
    expect(block.part(bytes, 0, 4096)).not.to.equal(null)
    expect(block.part(bytes, 8192, 8192), 'of another length').to.equal(null)
  })

  it('knows what is aligned', () => {
    const { bytes } = new Slab().take(8192)
    expect(isAligned(bytes.subarray(512, 1024), 512)).to.equal(true)
    expect(isAligned(bytes.subarray(512, 1023), 512)).to.equal(false)
    expect(isAligned(bytes.subarray(511, 1023), 512)).to.equal(false)
    expect(isAligned(Buffer.alloc(4096), 512), 'who knows where').to.equal(false)
  })
})
