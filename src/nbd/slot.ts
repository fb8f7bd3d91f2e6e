import type { StorageError } from '../base/errors.ts'
import { KiB } from '../base/size.ts'
import { Operation, Request, type Completer } from '../device/request.ts'

/** The most chunks of one read that are kept apart because they came out of order. */
const piecesMax = 4096
/** How many more chunks one read may have than one for every 512 bytes, as servers send. */
const chunksExtra = 16

/** What a hole reads as; never written to. */
const zeroes = Buffer.alloc(256 * KiB)

/** The completer of pieces, which are only places for bytes: nothing waits for them. */
const nobody: Completer = { completed: () => undefined }

/**
 * One request on its way to a server and what has come back for it. Slots are reused; a reply's
 * cookie names the slot and which of its uses is meant.
 */
export class Slot {
  readonly index: number
  request: Request | null = null
  /** Tells this use of the slot from those before; a small integer. */
  use = 0
  /** The number of the request among those that were sent on the connection. */
  sequence = 0
  /** When it was sent, in ticks of the connection. */
  tick = 0
  /** The first error the reply gave; it decides, whatever else comes. */
  failure: StorageError | null = null
  /** Whether the last chunk of the reply was announced. */
  done = false
  private chunks = 0
  /** Bytes at the start of the range that are in the request already. */
  private received = 0
  /** Chunks that came too early, by offset; they do not overlap. */
  private readonly pieces: Request[] = []

  constructor(index: number) {
    this.index = index
  }

  /** Takes a request, which is sent now. */
  begin(request: Request, sequence: number, tick: number): void {
    this.request = request
    this.use = (this.use + 1) & 0x3fff_ffff
    this.sequence = sequence
    this.tick = tick
    this.failure = null
    this.done = false
    this.chunks = 0
    this.received = 0
  }

  /** Gives the request away; the slot is free afterwards. */
  end(): Request {
    const request = this.request!
    this.request = null
    this.dropPieces()
    return request
  }

  /**
   * Where `length` bytes of the answer that begin at `offset` go: the request, or a piece. Null
   * when they were not asked for, came before, or come in more parts than is sane.
   */
  place(offset: number, length: number): Request | null {
    const request = this.request!
    const from = offset - request.offset
    if (from < this.received || from + length > request.length) return null
    if (++this.chunks > request.length / 512 + chunksExtra) return null
    if (from === this.received && this.pieces.length === 0) {
      this.received += length
      return request
    }
    return this.placeApart(offset, length)
  }

  /** Fills the `place` of a hole with zeroes. Returns false where `place` returns null. */
  placeZeroes(offset: number, length: number): boolean {
    const into = this.place(offset, length)
    if (into === null) return false
    for (let left = length; left > 0; left -= zeroes.length)
      into.append(left >= zeroes.length ? zeroes : zeroes.subarray(0, left), null)
    return true
  }

  /** Puts the pieces of a read into its request; false when bytes are missing. */
  assemble(): boolean {
    const request = this.request!
    for (const piece of this.pieces) {
      if (piece.offset !== request.offset + this.received) return false
      this.received += piece.length
      request.adopt(piece)
    }
    return this.received === request.length
  }

  private placeApart(offset: number, length: number): Request | null {
    const { pieces } = this
    if (pieces.length === piecesMax) return null
    let low = 0
    let high = pieces.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (pieces[middle]!.offset < offset) low = middle + 1
      else high = middle
    }
    const before = pieces[low - 1]
    const after = pieces[low]
    if (before !== undefined && before.offset + before.length > offset) return null
    if (after !== undefined && offset + length > after.offset) return null
    const piece = Request.take(Operation.read, offset, length, 0, nobody)
    pieces.splice(low, 0, piece)
    return piece
  }

  private dropPieces(): void {
    for (const piece of this.pieces) {
      piece.complete()
      piece.release()
    }
    this.pieces.length = 0
  }
}
