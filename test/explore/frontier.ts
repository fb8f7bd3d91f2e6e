import type { Pack } from './pack.ts'

/** States that are to be looked at, packed one after the other, behind its length and budget. */
export class Frontier {
  private readonly chunks: Uint8Array[] = []
  private readonly nodes: Uint32Array[] = []
  private end = chunkBytes
  private count = nodesPerChunk
  length = 0

  add(node: number, { bytes, at: length }: Pack, budget: number): void {
    if (this.count === nodesPerChunk) {
      this.nodes.push(new Uint32Array(nodesPerChunk))
      this.count = 0
    }
    this.nodes.at(-1)![this.count++] = node
    if (this.end + length + 3 > chunkBytes) {
      this.chunks.push(new Uint8Array(chunkBytes))
      this.end = 0
    }
    const chunk = this.chunks.at(-1)!
    chunk[this.end] = length & 255
    chunk[this.end + 1] = length >> 8
    chunk[this.end + 2] = budget
    for (let at = 0, to = this.end + 3; at < length; at++, to++) chunk[to] = bytes[at]!
    this.end += length + 3
    this.length++
  }

  /** Calls back with every state, and where it is packed, as long as it wants to go on. */
  forEach(found: (node: number, bytes: Uint8Array, at: number) => boolean): void {
    let seen = 0
    for (let index = 0; index < this.chunks.length; index++) {
      const chunk = this.chunks[index]!
      let at = 0
      while (at + 3 < chunkBytes && seen < this.length) {
        const length = chunk[at]! | (chunk[at + 1]! << 8)
        // Nothing is behind the last state of a chunk.
        if (length === 0) break
        const node = this.nodes[Math.floor(seen / nodesPerChunk)]![seen % nodesPerChunk]!
        if (!found(node, chunk, at + 3)) return
        seen++
        at += length + 3
      }
      // Nobody asks for it again.
      this.chunks[index] = nothing
    }
  }
}

const chunkBytes = 1 << 22
const nodesPerChunk = 1 << 16
const nothing = new Uint8Array(0)
