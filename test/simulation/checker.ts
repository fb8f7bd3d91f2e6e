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
  /** What may be read now; the newest of these unless a crash took some back. */
  may: Write[]
  /** What may be on stable storage: everything since the last write that was flushed. */
  history: Write[]
  inFlight: Write[]
  reads: Read[]
  /** When a write in flight was first read: from then on it has taken effect. */
  readonly seen: Map<Write, number>
  /** Writes in flight that were read before one began that is acknowledged: they are the past. */
  readonly overtaken: Set<Write>
}

/**
 * The set of values that every sector of a volume may have: what was acknowledged last, what is in
 * flight or came to an unknown end, and after a loss whatever was not flushed. A read settles which
 * of them it is: from then on no other may be seen.
 */
export class Checker {
  private readonly sectors: Sector[]
  /** Those with something that was not flushed. */
  private readonly unstable = new Set<Sector>()
  private time = 0
  private values = 0
  /** What the last problem was about, for the history that is printed. */
  suspect = -1
  reads = 0

  constructor(sectors: number) {
    const origin = new Write(0, 0, sectors, -1)
    origin.end = 0
    origin.certain = true
    origin.flushed = true
    this.sectors = Array.from({ length: sectors }, () => newSector(origin))
  }

  get size(): number {
    return this.sectors.length
  }

  /** The volume has more sectors now, which are zero. */
  grow(sectors: number): void {
    const origin = new Write(0, this.sectors.length, sectors, this.time)
    origin.end = ++this.time
    origin.certain = true
    origin.flushed = true
    while (this.sectors.length < sectors) this.sectors.push(newSector(origin))
  }

  /** A write of new bytes (`zeroes` false) or of zeroes. */
  beginWrite(first: number, sectors: number, zeroes: boolean): Write {
    const write = new Write(zeroes ? 0 : ++this.values, first, sectors, ++this.time)
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
    write.flushed = certain && stable
    for (let at = write.first; at < write.first + write.sectors; at++) {
      const sector = this.sectors[at]!
      sector.inFlight.splice(sector.inFlight.indexOf(write), 1)
      if (certain) {
        sector.may = sector.may.filter((other) => other.end > write.start)
        for (const [other, time] of sector.seen) if (time < write.start) sector.overtaken.add(other)
      }
      if (!sector.overtaken.delete(write)) sector.may.push(write)
      sector.seen.delete(write)
      sector.history.push(write)
      this.unstable.add(sector)
      if (write.flushed) prune(sector, write)
    }
  }

  beginFlush(): number {
    return ++this.time
  }

  /** Everything acknowledged before `start` is stable. */
  endFlush(start: number): void {
    for (const sector of this.unstable) {
      for (const write of sector.history.slice()) {
        if (!write.certain || write.end > start) continue
        write.flushed = true
        prune(sector, write)
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
      allowed.push(possible(sector).map((write) => write.value))
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
    return possible(sector).some((write) => write.value === value)
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
    sector.seen.clear()
    sector.overtaken.clear()
    this.unstable.add(sector)
    for (const read of sector.reads) {
      read.allowed[index - read.first]!.push(...sector.may.map((write) => write.value))
      read.disturbed[index - read.first] = true
    }
  }

  /** A leg cannot vouch for what of these sectors is in flight. */
  loseInFlight(first: number, sectors: number, leg: object, how: 'lostBy' | 'distrustedBy'): void {
    for (const write of this.inFlight(first, sectors)) write[how].add(leg)
  }

  /** A leg that could not vouch for what is in flight has been filled since. */
  regainInFlight(leg: object): void {
    for (const write of this.inFlight(0, this.size)) {
      write.lostBy.delete(leg)
      write.distrustedBy.delete(leg)
    }
  }

  /** What a leg lost, and no other one can vouch for: an answer to it may come late. */
  doubtInFlight(first: number, sectors: number, others: readonly object[]): void {
    for (const write of this.inFlight(first, sectors)) {
      const { lostBy, distrustedBy } = write
      if (lostBy.size > 0 && others.every((leg) => lostBy.has(leg) || distrustedBy.has(leg)))
        write.doubtful = true
    }
  }

  /** The loss was announced: what is acknowledged from now on came after it. */
  trustInFlight(first: number, sectors: number): void {
    for (const write of this.inFlight(first, sectors)) {
      write.doubtful = false
      write.lostBy.clear()
      write.distrustedBy.clear()
    }
  }

  private inFlight(first: number, sectors: number): Set<Write> {
    return new Set(this.sectors.slice(first, first + sectors).flatMap(({ inFlight }) => inFlight))
  }

  /** Sectors with something that was not flushed: what a power loss may change. */
  unflushed(): number[] {
    return [...this.unstable].map((sector) => this.sectors.indexOf(sector))
  }

  /** What the sector shows, all of it acknowledged: to lose that is to be told. Null: not so. */
  acknowledged(index: number): Acknowledged | null {
    const { may } = this.sectors[index]!
    if (!may.every(({ certain }) => certain)) return null
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
    const bytes = Buffer.alloc(write.sectors * sectorBytes)
    if (write.value === 0) return bytes
    for (let at = 0; at < write.sectors; at++)
      fillSector(bytes, at * sectorBytes, write.value, write.first + at)
    return bytes
  }

  /** The value that a sector's bytes stand for. */
  private decode(bytes: Buffer, from: number, index: number): number {
    const words = new Int32Array(bytes.buffer, bytes.byteOffset + from, wordsPerSector)
    const value = words[0]!
    const seed = seedOf(value, index)
    for (let word = 1; word < wordsPerSector; word++) {
      if (words[word] === (value === 0 ? 0 : seed ^ (word << 9))) continue
      this.suspect = index
      const seen = bytes.subarray(from, from + 16).toString('hex')
      throw new Violation(`sector ${index} holds bytes that nobody wrote there: ${seen}...`)
    }
    return value
  }

  /** A write takes effect once: who saw it, and then had another acknowledged, saw it end. */
  private see(sector: Sector, value: number): void {
    const write = sector.inFlight.find((one) => one.value === value && value !== 0)
    if (write !== undefined && !sector.seen.has(write)) sector.seen.set(write, ++this.time)
  }

  private settle(sector: Sector, value: number, start: number): void {
    if (sector.may.length === 1 && sector.may[0]!.certain) return
    const seen = sector.may.find((write) => write.value === value)
    if (seen === undefined) return
    // From now on this is what is there: later than all else that might be.
    const settled = new Write(value, seen.first, seen.sectors, start)
    settled.end = ++this.time
    settled.certain = true
    sector.may = [settled]
    sector.history = [...sector.history.filter((write) => write !== seen), settled]
    this.unstable.add(sector)
  }
}

/** What ended before a write began that is now stable can never be seen again. */
function prune(sector: Sector, stable: Write): void {
  sector.history = sector.history.filter((other) => other.end > stable.start)
}

function newSector(origin: Write): Sector {
  return {
    may: [origin],
    history: [origin],
    inFlight: [],
    reads: [],
    seen: new Map(),
    overtaken: new Set(),
  }
}

/** The writes that the sector may show now. */
function possible({ may, inFlight, overtaken }: Sector): Write[] {
  return [...may, ...inFlight.filter((write) => !overtaken.has(write))]
}

function nameOf(value: number): string {
  return value === 0 ? 'zeroes' : `#${value}`
}

const wordsPerSector = sectorBytes / 4

function seedOf(value: number, sector: number): number {
  return Math.imul(value, 0x9e3779b1) ^ Math.imul(sector + 1, 0x85ebca6b)
}

function fillSector(bytes: Buffer, from: number, value: number, sector: number): void {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + from, wordsPerSector)
  const seed = seedOf(value, sector)
  words[0] = value
  for (let word = 1; word < wordsPerSector; word++) words[word] = seed ^ (word << 9)
}
