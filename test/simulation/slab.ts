import { Block, pageBytes, Slab, type Lease } from '../../src/base/slab.ts'

/** What released memory is filled with, so that a use after the release shows as wrong data. */
const poison = 0xdb

type Arena = ConstructorParameters<typeof Block>[1]

/** A slab for one simulated process: nothing is shared, and released bytes are spoilt at once. */
export class PoisonSlab extends Slab {
  private readonly spare: Block[][] = []

  /** Too much for parts to outlive a block: all of it is spoilt at once. */
  override get bytesIdle(): number {
    return Infinity
  }

  override take(length: number): Block {
    const order = length <= pageBytes ? 0 : 32 - Math.clz32((length - 1) >>> 12)
    const block = this.spare[order]?.pop() ?? this.make(order)
    block.holds = 1
    block.final = false
    this.bytesHeld += pageBytes << order
    return block
  }

  override takeBack(block: Block): void {
    this.bytesHeld -= pageBytes << block.order
    block.bytes.fill(poison)
    ;(this.spare[block.order] ??= []).push(block)
  }

  private make(order: number): Block {
    // A block needs nothing of its arena but the memory, as long as it never goes back to one.
    const arena = { memory: new ArrayBuffer(pageBytes << order) } as unknown as Arena
    return new Block(this, arena, 0, order)
  }
}

/** A buffer that is spoilt when its last holder lets go. */
export class PoisonLease implements Lease {
  readonly bytes: Buffer
  private holds = 1

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  retain(): void {
    if (this.holds === 0) throw new Error('a lease was retained after its last release')
    this.holds++
  }

  release(): void {
    if (this.holds === 0) throw new Error('a lease was released twice')
    if (--this.holds === 0) this.bytes.fill(poison)
  }
}
