import { StorageError, systemError } from '../base/errors.ts'
import { stored } from './deadline.ts'
import type { VolumeRecord } from './record.ts'
import type { Volume } from './volume.ts'

/** Claims between two generations: room for the numbers that tell heads apart. */
export const claimsPerStep = 2 ** 20
/** Of a head's number and of steps: a claim stays a number that the wire can say exactly. */
export const numberMax = 2 ** 40
export const stepMax = 2 ** 32
/** Beyond `stepMax`, for those who claim above what was given up there, each one step further. */
export const stepAboveMax = stepMax + 2 ** 30

/**
 * Claims that are remembered. An attempt at a start makes a new one only after a restart of the
 * head, and the first that succeeds claims every leg: older ones show on no leg in sync.
 */
const claimsKept = 64

/**
 * What a head knows of itself over its restarts, in the store beside its record: `number floor
 * doubted claim claim ...`, the newest claim first. Older versions wrote the first two alone.
 */
export class HeadMemory {
  /** Tells this head's claims from those of others; null until it was read. */
  number: number | null = null
  /** The step that the next claim must be above, see `nextClaim`. */
  outbid = 0
  /**
   * Id of the generation of this head's record in which another head has had legs: that record
   * says no more who is in sync. Claims are the only evidence of it, which the next one replaces.
   */
  private doubted = nothing
  private claims: number[] = []
  /** The number that claims were made with before they were kept; null when they are known. */
  private formerNumber: number | null = null
  private saved = ''
  private loading: Promise<void> | null = null

  /** Reads it, once; a new number is drawn where there is none that can be read. */
  load(volume: Volume): Promise<void> {
    this.loading ??= this.read(volume)
    return this.loading
  }

  private async read(volume: Volume): Promise<void> {
    const { store, random, key } = volume
    if (store === null) {
      this.number = 0
      return
    }
    const text = await stored(volume, store.load(keyOf(key))).catch((error: unknown) => {
      if ((error as StorageError).code !== 'TIMEOUT') return null
      // What it has may be read yet: nothing may be drawn in its place.
      this.loading = null
      throw error
    })
    if (!this.parse(text ?? '')) this.number = Math.floor(random.fraction() * claimsPerStep)
  }

  private parse(text: string): boolean {
    const parts = /^(\d+)(?: (\d+)(?: (-|[0-9a-f]{16})((?: \d+)*))?)?$/.exec(text)
    if (parts === null) return false
    const [number, outbid] = [Number(parts[1]), Number(parts[2] ?? 0)]
    const claims = (parts[4] ?? '').split(' ').filter(Boolean).map(Number)
    if (!(number <= numberMax && outbid < stepAboveMax && claims.every(Number.isSafeInteger)))
      return false
    this.number = Math.min(number + 1, numberMax)
    this.outbid = Math.max(this.outbid, outbid)
    this.doubted = parts[3] ?? nothing
    this.claims = claims.slice(0, claimsKept)
    this.formerNumber = parts[3] === undefined ? number : null
    return true
  }

  /** Whether this head made the claim; 0 is none. */
  made(claim: number): boolean {
    if (claim === 0 || this.claims.includes(claim)) return true
    // A state directory of before: that claims were made with this number is as good as certain.
    const { formerNumber } = this
    if (formerNumber === null || (claim - formerNumber) % claimsPerStep !== 0) return false
    this.claims.push(claim)
    return true
  }

  /** The claim is about to be made: resolves when it is durable. */
  async remember(volume: Volume, claim: number): Promise<void> {
    if (!this.claims.includes(claim)) this.claims = [claim, ...this.claims].slice(0, claimsKept)
    await this.save(volume)
  }

  /** Another head has had legs that this head's record speaks of: kept with the next claim. */
  doubt({ generation }: VolumeRecord): void {
    this.doubted = generation.id
  }

  doubts({ generation }: VolumeRecord): boolean {
    return this.doubted === generation.id
  }

  async save(volume: Volume): Promise<void> {
    const text = [this.number, this.outbid, this.doubted, ...this.claims].join(' ')
    if (text === this.saved || volume.store === null) return
    try {
      await stored(volume, volume.store.save(keyOf(volume.key), text))
      this.saved = text
    } catch (error) {
      const { code, message } = systemError(error, 'saving')
      throw new StorageError(code, `the state directory cannot be written: ${message}`, volume.path)
    }
  }
}

const nothing = '-'

function keyOf(record: string): string {
  return `${record}_head`
}
