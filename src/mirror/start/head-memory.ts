import { StorageError, systemError } from '../../base/errors.ts'
import type { Random } from '../../base/random.ts'
import type { Claimed } from '../../device/device.ts'
import { stored } from '../deadline.ts'
import type { Leg } from '../leg.ts'
import type { VolumeRecord } from '../record.ts'
import type { Volume } from '../volume.ts'
import { readOwn, type Kept } from './own-files.ts'

/** Claims between two generations: room for the numbers that tell heads apart. */
const claimsPerStep = 2 ** 20
/**
 * Bounds of a head's number and of steps, so that a claim stays a number that the wire can carry
 * exactly.
 */
const numberMax = 2 ** 40
const stepMax = 2 ** 32
/** Room beyond `stepMax` for claims above what was given up there, each one step further. */
const stepAboveMax = stepMax + 2 ** 30

/**
 * Factor by which an operator's word raises the next claim: a few of these outbid any other head.
 */
const outbidFactor = 1024

/** What a leg shows that was never claimed. */
export const nobodys: Claimed = { held: 0, givenUp: 0 }

/**
 * How many claims are remembered. An attempt at a start makes a new one only after a restart of the
 * head. A leg that was away for longer shows one that is forgotten, see `isForgotten`.
 */
const claimsKept = 64

/**
 * What a head knows of itself over its restarts, in the store beside its record: `number floor
 * doubted claim claim ...`, the newest claim first. Older versions wrote the first two alone.
 */
export class HeadMemory {
  /** Tells this head's claims from those of others; null until it was read. */
  private number: number | null = null
  /**
   * The step that the next claim is above, which never sinks: as high as every generation that this
   * head has seen, and no lower than its last claim, which may be on legs and in no generation.
   */
  private floor = 0
  /** The claim made at the start, and higher ones for the legs that needed more. */
  private claimed = 0
  private readonly claimedAbove = new Map<Leg, number>()
  /**
   * Id of the generation of this head's record in which another head has had legs: that record does
   * not say which legs are in sync now. Claims are the only evidence of it, and the next claim
   * replaces them. `whichever` where it is unknown which record is meant.
   */
  private doubted = nothing
  /** Whether the record was there and could not be read when it was looked for last. */
  private isLost = false
  private claims: number[] = []
  /** Claims of this process that are not yet among `claims`, see `keepClaims`. */
  private chosen: number[] = []
  /** The claim that each leg took, where no other head had claimed the leg before. */
  private readonly heard = new Map<Leg, number>()
  /** Legs that may have taken a claim, but whose answer was not heard. */
  private readonly unheard = new Set<Leg>()
  /**
   * The number of the claims that an older version made and did not record; null when they are
   * known.
   */
  private formerNumber: number | null = null
  private saved = ''
  private loaded = false

  /**
   * Reads the file, once; draws a new number where it is lost. Resolves to why it is unread, '' if
   * it is not.
   */
  async load(volume: Volume): Promise<string> {
    if (this.loaded) return ''
    const kept = await readOwn({ volume, suffix }, (text) => this.parse(text))
    this.loaded = kept.unread === ''
    if (kept.value !== null) return ''
    // One for all attempts: two claims of one generation would refuse each other.
    this.number ??= volume.store === null ? 0 : Math.floor(volume.random.fraction() * claimsPerStep)
    // The doubts of this head were in the lost file.
    if (kept.lost) this.doubted = whichever
    return kept.unread
  }

  private parse(text: string): true | null {
    const parts = /^(\d+)(?: (\d+)(?: (-|\*|[0-9a-f]{16})((?: \d+)*))?)?$/.exec(text)
    if (parts === null) return null
    const [number, floor] = [Number(parts[1]), Number(parts[2] ?? 0)]
    const claims = (parts[4] ?? '').split(' ').filter(Boolean).map(Number)
    if (!(number <= numberMax && floor < stepAboveMax && claims.every(Number.isSafeInteger)))
      return null
    this.number = Math.min(number + 1, numberMax)
    this.startAbove(floor)
    this.doubted = parts[3] ?? nothing
    this.claims = claims.slice(0, claimsKept)
    this.formerNumber = parts[3] === undefined ? number : null
    return true
  }

  /**
   * Whether this head made the claim, and heard that it replaced no other head's; true for 0, no
   * claim.
   */
  made(claim: number, leg: Leg): boolean {
    if (claim === 0 || this.claims.includes(claim) || this.isForgotten(claim)) return true
    if (this.heard.get(leg) === claim) return true
    // The file is of an older version: a claim with this number is as good as certainly this
    // head's.
    const { formerNumber } = this
    if (formerNumber === null || (claim - formerNumber) % claimsPerStep !== 0) return false
    this.claims.push(claim)
    return true
  }

  /**
   * Whether the claim is older than all that are remembered, so many that others were forgotten,
   * and was made by a head, unlike `anothers` in `above.ts`. Another head may have made it, but
   * none that served since this one did: a leg that it would have needed has one of the remembered
   * claims, and refused it, or told of it when it took one.
   */
  private isForgotten(claim: number): boolean {
    const isOld = this.claims.length === claimsKept && claim < Math.min(...this.claims)
    return isOld && claim >= claimsPerStep
  }

  /** Notes the counter of a generation: the next claim, and the next generation, are above it. */
  startAbove(counter: number): void {
    this.floor = Math.max(this.floor, counter)
  }

  /**
   * The counter that a new generation must be above. Its counter is then no lower than the claim,
   * so that a head that sees it claims more.
   */
  get counterFloor(): number {
    return Math.floor(this.claimAt(this.floor + 1) / claimsPerStep) - 1
  }

  /** The claim for this leg. */
  claimOf(leg: Leg): number {
    return Math.max(this.claimed, this.claimedAbove.get(leg) ?? 0)
  }

  /** Chooses the claim for all legs, which is made next. Rejects when it cannot be saved. */
  async chooseClaim(volume: Volume, last: Claimed): Promise<void> {
    this.claimed = await this.nextClaim(volume, last)
  }

  /** Chooses a higher claim for one leg, which is made next. */
  claimAbove(leg: Leg, claim: number): void {
    this.claimedAbove.set(leg, claim)
  }

  /**
   * The claim that this head makes next, saved. Rejects when it cannot be saved. A claim is
   *
   * 1. above every generation seen,
   * 2. different from what another head takes that saw the same, so that of two that start at once
   *    one is the older,
   * 3. higher than before a restart of this head, whose number rises by one each time: what it
   *    claimed before it died does not keep it out, and the requests that it left under way are
   *    waited for, though no generation may tell the two apart,
   * 4. the same for all attempts to start in one generation,
   * 5. above what was given up of the legs. A claim that another head holds is not outdone: it
   *    refuses this one.
   */
  async nextClaim(volume: Volume, last: Claimed): Promise<number> {
    this.doubt(null)
    let claim = this.claimAt(this.floor + 1)
    const above = Math.floor(last.givenUp / claimsPerStep) + 1
    if (last.givenUp >= claim && last.held <= claim && above <= stepAboveMax) {
      this.floor = above - 1
      claim = this.claimAt(above)
    }
    if (!this.claims.includes(claim) && !this.chosen.includes(claim)) this.chosen.unshift(claim)
    await this.save(volume)
    return claim
  }

  /** Notes that the leg is about to be claimed. */
  asks(leg: Leg): void {
    this.unheard.add(leg)
  }

  /**
   * Notes the leg's answer: it took the claim, took it from another head, or refused it.
   */
  hears(leg: Leg, claim: number, what: 'taken' | 'taken-from-another' | 'refused'): void {
    this.unheard.delete(leg)
    if (what === 'taken') this.heard.set(leg, claim)
  }

  /**
   * Keeps the claims made, if every one of `legs` that was claimed has answered, and what that told
   * is durable. Only then do later starts know the claims for this head's own: a claim without an
   * answer may have replaced another head's, and with it the only evidence of that head.
   */
  async keepClaims(volume: Volume, legs: readonly Leg[] = volume.legs): Promise<void> {
    if (legs.some((leg) => this.unheard.has(leg))) return
    this.claims = [...this.chosen, ...this.claims].slice(0, claimsKept)
    this.chosen = []
    await this.save(volume)
  }

  private claimAt(step: number): number {
    return step * claimsPerStep + this.number!
  }

  /** Raises this head's number, because another head has claimed more. */
  raiseNumber(random: Random): void {
    const more = 1 + Math.floor(random.fraction() * claimsPerStep)
    this.number = Math.min((this.number ?? 0) + more, numberMax)
  }

  /** Has the next claim be far above the last one. */
  goFarAbove(): void {
    const step = Math.floor(this.claimed / claimsPerStep)
    this.startAbove(Math.min(step * outbidFactor, stepMax))
  }

  /** Notes the result of looking for this head's record. */
  looked({ lost }: Kept<VolumeRecord>): void {
    this.isLost = lost
  }

  /**
   * Doubts the record: another head has had, or may have had, legs that it speaks of. That is saved
   * with the next claim. Null where the record is not known; then nothing is doubted if there is
   * none.
   */
  doubt(record: VolumeRecord | null): void {
    if (record !== null) this.doubted = record.generation.id
    else if (this.isLost) this.doubted = whichever
  }

  doubts({ generation }: VolumeRecord): boolean {
    return this.doubted === whichever || this.doubted === generation.id
  }

  /**
   * Ends all doubt: it is durable which legs are in sync now, so it does not matter what other
   * heads did before.
   */
  async serves(volume: Volume): Promise<void> {
    this.doubted = nothing
    this.isLost = false
    await this.keepClaims(volume, volume.inSync)
  }

  async save(volume: Volume): Promise<void> {
    const floor = Math.min(this.floor, stepAboveMax - 1)
    const text = [this.number, floor, this.doubted, ...this.claims].join(' ')
    if (text === this.saved || volume.store === null) return
    try {
      await stored(volume, volume.store.save(`${volume.key}${suffix}`, text))
      this.saved = text
    } catch (error) {
      const { code, message } = systemError(error, 'saving')
      throw new StorageError(code, `the state directory cannot be written: ${message}`, volume.path)
    }
  }
}

const suffix = '_head'
const nothing = '-'
const whichever = '*'
