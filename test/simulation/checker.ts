import { sectorBytes } from './medium.ts'

/** Found something that must never be. Stops the seed. */
export class Violation extends Error {
  override readonly name = 'Violation'
}

/** A write on its way, or what became of it. Times are the checker's own, a count of its events. */
export class Write {
  /** What its sectors hold: never 0 but for zeroes. */
  readonly value: number
  readonly first: number
  readonly sectors: number
  readonly start: number
  /** When its outcome was known. */
  end = Infinity
  /** Whether it is certain to be there; else it may be there or not. */
  certain = false
  /** Whether it was acknowledged, or was there from the beginning: then it is promised. */
  acknowledged = false
  flushed = false
  /** Every leg lost something while it was in flight: it may be acknowledged late, and be gone. */
  doubtful = false
  /** Legs that lost something while it was in flight. */
  readonly lostBy = new Set<object>()
  /** Legs that failed while it was in flight, lost nothing, and cannot know that. */
  readonly distrustedBy = new Set<object>()

  constructor(value: number, first: number, sectors: number, start: number) {
    this.value = value
    this.first = first
    this.sectors = sectors
    this.start = start
  }
}

export interface Read {
  readonly first: number
  readonly start: number
  /** Values each sector may show, by its place in the read. */
  readonly allowed: number[][]
  /** Whether a write touched the sector meanwhile: then the answer does not settle it. */
  readonly disturbed: boolean[]
}

/** What a sector showed: each of these values may have been read. */
export interface Acknowledged {
  readonly values: readonly number[]
  /** When the first of them was acknowledged. */
  readonly since: number
}

interface Sector {
  readonly index: number
  /** What may be read now; the newest of these unless a crash took some back. */
  may: Write[]
  /** What may be on stable storage: everything since the last write that was flushed. */
  history: Write[]
  inFlight: Write[]
  reads: Read[]
  /** When a write in flight was first read: from then on it has taken effect. Null for none. */
  seen: Map<Write, number> | null
  /** Writes in flight that were read before one began that is acknowledged: they are the past. */
  overtaken: Set<Write> | null
}

/**
 * The set of values that every sector of a volume may have: what was acknowledged last, what is in
 * flight or came to an unknown end, and after a loss whatever was not flushed. A read settles which
 * of them it is: from then on no other may be seen.
 */
export class Checker {
  private readonly sectors: Sector[]
  /** Writes whose outcome is not known. */
  private readonly inFlight = new Set<Write>()
  /** Those with something that was not flushed. */
  private readonly unstable = new Set<Sector>()
  /** The bytes that were looked at last, as words. */
  private decoded: { readonly bytes: Buffer; readonly words: Int32Array } | null = null
  private time = 0
  private values = 0
  /** What the last problem was about, for the history that is printed. */
  suspect = -1
  reads = 0

  constructor(sectors: number) {
    const origin = new Write(0, 0, sectors, -1)
    origin.end = 0
    origin.certain = true
    origin.acknowledged = true
    origin.flushed = true
    this.sectors = Array.from({ length: sectors }, (_, at) => newSector(at, origin))
  }

  get size(): number {
    return this.sectors.length
  }

  /** The volume has more sectors now, which are zero. */
  grow(sectors: number): void {
    const origin = new Write(0, this.sectors.length, sectors, this.time)
    origin.end = ++this.time
    origin.certain = true
    origin.acknowledged = true
    origin.flushed = true
    while (this.sectors.length < sectors) this.sectors.push(newSector(this.sectors.length, origin))
  }

  /** A write of new bytes (`zeroes` false) or of zeroes. */
  beginWrite(first: number, sectors: number, zeroes: boolean): Write {
    const write = new Write(zeroes ? 0 : ++this.values, first, sectors, ++this.time)
    this.inFlight.add(write)
    for (let at = first; at < first + sectors; at++) {
      const sector = this.sectors[at]!
      sector.inFlight.push(write)
      for (const read of sector.reads) {
        read.allowed[at - read.first]!.push(write.value)
        read.disturbed[at - read.first] = true
      }
    }
    return write
  }

  /** `stable`: with force unit access. */
  endWrite(write: Write, acknowledged: boolean, stable: boolean): void {
    const certain = acknowledged && (stable || !write.doubtful)
    write.end = ++this.time
    write.certain = certain
    write.acknowledged = acknowledged
    write.flushed = certain && stable
    this.inFlight.delete(write)
    for (let at = write.first; at < write.first + write.sectors; at++) {
      const sector = this.sectors[at]!
      sector.inFlight.splice(sector.inFlight.indexOf(write), 1)
      if (certain) {
        sector.may = since(sector.may, write)
        overtake(sector, write)
      }
      if (sector.overtaken?.delete(write) !== true) sector.may.push(write)
      sector.seen?.delete(write)
      sector.history.push(write)
      this.unstable.add(sector)
      if (write.flushed) sector.history = since(sector.history, write)
    }
  }

  beginFlush(): number {
    return ++this.time
  }

  /** Everything acknowledged before `start` is stable. */
  endFlush(start: number): void {
    for (const sector of this.unstable) {
      for (const write of sector.history) {
        if (!write.certain || write.end > start) continue
        write.flushed = true
        sector.history = since(sector.history, write)
      }
      if (sector.history.every((write) => write.flushed)) this.unstable.delete(sector)
    }
  }

  beginRead(first: number, sectors: number): Read {
    const allowed: number[][] = []
    const disturbed: boolean[] = []
    const read = { first, start: ++this.time, allowed, disturbed }
    for (let at = first; at < first + sectors; at++) {
      const sector = this.sectors[at]!
      allowed.push(possible(sector))
      disturbed.push(sector.inFlight.length > 0)
      sector.reads.push(read)
    }
    return read
  }

  /** `bytes` null: the read failed and says nothing. */
  endRead(read: Read, bytes: Buffer | null): void {
    this.reads++
    for (const [at, allowed] of read.allowed.entries()) {
      const index = read.first + at
      const sector = this.sectors[index]!
      sector.reads.splice(sector.reads.indexOf(read), 1)
      if (bytes === null) continue
      const value = this.decode(bytes, at * sectorBytes, index)
      if (!allowed.includes(value)) {
        this.suspect = index
        throw new Violation(
          `sector ${index} reads as ${nameOf(value)}; it may be ${allowed.map(nameOf).join(', ')}`,
        )
      }
      if (read.disturbed[at] !== true) this.settle(sector, value, read.start)
      else this.see(sector, value)
    }
  }

  /** What the sector shows on one leg must be one of what the volume may show. */
  mayHold(index: number, bytes: Buffer, at: number): boolean {
    let value: number
    try {
      value = this.decode(bytes, at, index)
    } catch {
      return false
    }
    const sector = this.sectors[index]!
    return possible(sector).includes(value)
  }

  /** Nobody holds the sector's newest bytes any more: anything since the flush may return. */
  allowLoss(index: number): void {
    const sector = this.sectors[index]!
    const now = ++this.time
    sector.history = sector.history.map((write) => {
      const doubtful = new Write(write.value, write.first, write.sectors, write.start)
      doubtful.end = now
      return doubtful
    })
    sector.may = [...sector.history]
    sector.seen = null
    sector.overtaken = null
    this.unstable.add(sector)
    for (const read of sector.reads) {
      read.allowed[index - read.first]!.push(...sector.may.map((write) => write.value))
      read.disturbed[index - read.first] = true
    }
  }

  /** A leg cannot vouch for what of these sectors is in flight. */
  loseInFlight(first: number, sectors: number, leg: object, how: 'lostBy' | 'distrustedBy'): void {
    for (const write of this.inFlightIn(first, sectors)) write[how].add(leg)
  }

  /** A leg that could not vouch for what is in flight has been filled since. */
  regainInFlight(leg: object): void {
    for (const write of this.inFlight) {
      write.lostBy.delete(leg)
      write.distrustedBy.delete(leg)
    }
  }

  /** What a leg lost, and no other one can vouch for: an answer to it may come late. */
  doubtInFlight(first: number, sectors: number, others: readonly object[]): void {
    for (const write of this.inFlightIn(first, sectors)) {
      const { lostBy, distrustedBy } = write
      if (lostBy.size > 0 && others.every((leg) => lostBy.has(leg) || distrustedBy.has(leg)))
        write.doubtful = true
    }
  }

  /** The loss was announced: what is acknowledged from now on came after it. */
  trustInFlight(first: number, sectors: number): void {
    for (const write of this.inFlightIn(first, sectors)) {
      write.doubtful = false
      write.lostBy.clear()
      write.distrustedBy.clear()
    }
  }

  private inFlightIn(first: number, sectors: number): Write[] {
    return [...this.inFlight].filter(
      (write) => write.first < first + sectors && first < write.first + write.sectors,
    )
  }

  /** Sectors with something that was not flushed: what a power loss may change. */
  unflushed(): number[] {
    return [...this.unstable].map(({ index }) => index)
  }

  /** What the sector shows, all of it acknowledged: to lose that is to be told. Null: not so. */
  acknowledged(index: number): Acknowledged | null {
    const { may } = this.sectors[index]!
    // What a write left that failed may be read, and was promised to nobody.
    if (!may.every(({ certain, acknowledged }) => certain && acknowledged)) return null
    return { values: may.map(({ value }) => value), since: Math.min(...may.map(({ end }) => end)) }
  }

  /**
   * Who was there was told of no loss: what the sector showed is still there, or something newer.
   */
  assert(index: number, { values, since }: Acknowledged): void {
    const sector = this.sectors[index]!
    const kept = (write: Write): boolean => values.includes(write.value) || write.start > since
    sector.may = sector.may.filter(kept)
    sector.history = sector.history.filter(kept)
  }

  describe(index: number): string {
    const { may, history, inFlight } = this.sectors[index]!
    const list = (writes: Write[]) => writes.map((write) => nameOf(write.value)).join(', ')
    return `may be ${list(may)}; unflushed since ${list(history)}; in flight ${list(inFlight)}`
  }

  /** The bytes of sectors `first` to `first + sectors` as `write` has them. */
  fill(write: Write): Buffer {
    const length = write.sectors * sectorBytes
    if (write.value === 0) return Buffer.alloc(length)
    const bytes = Buffer.allocUnsafe(length)
    const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2)
    for (let at = 0; at < write.sectors; at++)
      fillSector(words, at * wordsPerSector, write.value, write.first + at)
    return bytes
  }

  /** The value that a sector's bytes stand for. */
  private decode(bytes: Buffer, from: number, index: number): number {
    const words = this.wordsOf(bytes)
    const first = from >>> 2
    const value = words[first]!
    const seed = seedOf(value, index)
    for (let word = 1; word < wordsPerSector; word++) {
      if (words[first + word] === (value === 0 ? 0 : seed ^ (word << 9))) continue
      this.suspect = index
      const seen = bytes.subarray(from, from + 16).toString('hex')
      throw new Violation(`sector ${index} holds bytes that nobody wrote there: ${seen}...`)
    }
    return value
  }

  /** A view is dear to make, and mostly the bytes are those of the sector before. */
  private wordsOf(bytes: Buffer): Int32Array {
    if (this.decoded?.bytes !== bytes) {
      const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2)
      this.decoded = { bytes, words }
    }
    return this.decoded.words
  }

  /** A write takes effect once: who saw it, and then had another acknowledged, saw it end. */
  private see(sector: Sector, value: number): void {
    const write = sector.inFlight.find((one) => one.value === value && value !== 0)
    if (write === undefined || sector.seen?.has(write) === true) return
    sector.seen ??= new Map()
    sector.seen.set(write, ++this.time)
  }

  private settle(sector: Sector, value: number, start: number): void {
    if (sector.may.length === 1 && sector.may[0]!.certain) return
    const seen = sector.may.find((write) => write.value === value)
    if (seen === undefined) return
    // From now on this is what is there: later than all else that might be.
    const settled = new Write(value, seen.first, seen.sectors, start)
    settled.end = ++this.time
    settled.certain = true
    settled.acknowledged = seen.acknowledged
    sector.may = [settled]
    sector.history = [...sector.history.filter((write) => write !== seen), settled]
    this.unstable.add(sector)
  }
}

/** Without what ended before a write began that is there now: that can never be seen again. */
function since(writes: Write[], { start }: Write): Write[] {
  return writes.every(({ end }) => end > start) ? writes : writes.filter(({ end }) => end > start)
}

/** What was read before `write` began is the past now. */
function overtake(sector: Sector, { start }: Write): void {
  for (const [other, time] of sector.seen ?? [])
    if (time < start) (sector.overtaken ??= new Set()).add(other)
}

function newSector(index: number, origin: Write): Sector {
  return {
    index,
    may: [origin],
    history: [origin],
    inFlight: [],
    reads: [],
    seen: null,
    overtaken: null,
  }
}

/** The values that the sector may show now. */
function possible({ may, inFlight, overtaken }: Sector): number[] {
  const values: number[] = []
  for (const { value } of may) values.push(value)
  for (const write of inFlight) if (overtaken?.has(write) !== true) values.push(write.value)
  return values
}

function nameOf(value: number): string {
  return value === 0 ? 'zeroes' : `#${value}`
}

const wordsPerSector = sectorBytes / 4

function seedOf(value: number, sector: number): number {
  return Math.imul(value, 0x9e3779b1) ^ Math.imul(sector + 1, 0x85ebca6b)
}

function fillSector(words: Int32Array, from: number, value: number, sector: number): void {
  const seed = seedOf(value, sector)
  words[from] = value
  for (let word = 1; word < wordsPerSector; word++) words[from + word] = seed ^ (word << 9)
}
