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
/** Of a head's number and of steps: a claim stays a number that the wire can say exactly. */
const numberMax = 2 ** 40
const stepMax = 2 ** 32
/** Beyond `stepMax`, for those who claim above what was given up there, each one step further. */
const stepAboveMax = stepMax + 2 ** 30

/** How much more is claimed by an operator's word: a few of them are enough, wherever it was. */
const outbidFactor = 1024

export const nobodys: Claimed = { held: 0, givenUp: 0 }

/**
 * Claims that are remembered. An attempt at a start makes a new one only after a restart of the
 * head. A leg that was away for more of them shows one that is forgotten, see `isForgotten`.
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
  /** What the legs were claimed with at the start, and those that had to be claimed with more. */
  private claimed = 0
  private readonly claimedAbove = new Map<Leg, number>()
  /**
   * Id of the generation of this head's record in which another head has had legs: that record
   * says no more who is in sync. Claims are the only evidence of it, which the next one replaces.
   * `whichever` where what could be read did not say which record it is.
   */
  private doubted = nothing
  /** Whether that record is there, and nobody could say what it is when it was looked for last. */
  private isLost = false
  private claims: number[] = []
  /** Claims of this process that are not among them yet, see `keepClaims`. */
  private chosen: number[] = []
  /** What each leg was claimed with where no other head had claimed it before. */
  private readonly heard = new Map<Leg, number>()
  /** Legs that may have taken a claim, and nobody heard whose it replaced. */
  private readonly unheard = new Set<Leg>()
  /** The number that claims were made with before they were kept; null when they are known. */
  private formerNumber: number | null = null
  private saved = ''
  private loaded = false

  /** Reads it, once; a new number is drawn where that is lost. Returns why it is unread. */
  async load(volume: Volume): Promise<string> {
    if (this.loaded) return ''
    const kept = await readOwn({ volume, suffix }, (text) => this.parse(text))
    this.loaded = kept.unread === ''
    if (kept.value !== null) return ''
    // One for all attempts: two claims of one generation would refuse each other.
    this.number ??= volume.store === null ? 0 : Math.floor(volume.random.fraction() * claimsPerStep)
    // What it doubted is lost as well.
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

  /** Whether this head made the claim, and heard that it replaced no other's; 0 is none. */
  made(claim: number, leg: Leg): boolean {
    if (claim === 0 || this.claims.includes(claim) || this.isForgotten(claim)) return true
    if (this.heard.get(leg) === claim) return true
    // A state directory of before: that claims were made with this number is as good as certain.
    const { formerNumber } = this
    if (formerNumber === null || (claim - formerNumber) % claimsPerStep !== 0) return false
    this.claims.push(claim)
    return true
  }

  /**
   * Whether it is below all that are remembered, so many that others were forgotten, and a head
   * made it, as none made `anothers` in `above.ts`. Another head may have, but none that served
   * since this one did: a leg that it would have needed has one of these, and refused it, or told
   * of it when it took one.
   */
  private isForgotten(claim: number): boolean {
    const isOld = this.claims.length === claimsKept && claim < Math.min(...this.claims)
    return isOld && claim >= claimsPerStep
  }

  /** A generation has come so far: the next claim, and the next generation, are above it. */
  startAbove(counter: number): void {
    this.floor = Math.max(this.floor, counter)
  }

  /** A generation above it is no lower than the claim: whoever sees it claims more. */
  get counterFloor(): number {
    return Math.floor(this.claimAt(this.floor + 1) / claimsPerStep) - 1
  }

  /** What the leg is claimed with. */
  claimOf(leg: Leg): number {
    return Math.max(this.claimed, this.claimedAbove.get(leg) ?? 0)
  }

  /** All legs are about to be claimed with the next claim. */
  async chooseClaim(volume: Volume, last: Claimed): Promise<void> {
    this.claimed = await this.nextClaim(volume, last)
  }

  /** One leg is about to be claimed with more than the others. */
  claimAbove(leg: Leg, claim: number): void {
    this.claimedAbove.set(leg, claim)
  }

  /**
   * What this head claims its legs with: above every generation seen, and never what another head
   * takes that saw the same, so that of two that start at once one is the older. A head keeps its
   * number over restarts, one higher each time: what it claimed before it died does not keep it
   * out, and what that left under way is waited for, though no generation may tell the two apart.
   * Attempts to start in one generation make the same claim.
   * Also above what was given up of the legs; what another head holds is not outdone, and refuses
   * the claim.
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

  /** The leg is about to be claimed. */
  asks(leg: Leg): void {
    this.unheard.add(leg)
  }

  /** It has answered: it took the claim from nobody else, or from another head, or not at all. */
  hears(leg: Leg, claim: number, what: 'taken' | 'taken-from-another' | 'refused'): void {
    this.unheard.delete(leg)
    if (what === 'taken') this.heard.set(leg, claim)
  }

  /**
   * Every one of the legs that was asked has answered, and what that told is durable. Only from
   * now on later starts know the claims for this head's own: one whose answer nobody heard may
   * have replaced another's, and with it the only evidence of that head.
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

  /** Another head has claimed more: from now on this one does. */
  raiseNumber(random: Random): void {
    const more = 1 + Math.floor(random.fraction() * claimsPerStep)
    this.number = Math.min((this.number ?? 0) + more, numberMax)
  }

  /** The next claim is far above the last one. */
  goFarAbove(): void {
    const step = Math.floor(this.claimed / claimsPerStep)
    this.startAbove(Math.min(step * outbidFactor, stepMax))
  }

  /** This head's record was looked for. */
  looked({ lost }: Kept<VolumeRecord>): void {
    this.isLost = lost
  }

  /**
   * Another head has had, or may have had, legs that this head's record speaks of: kept with the
   * next claim. Null where that record is not known: nothing is doubted if there is none.
   */
  doubt(record: VolumeRecord | null): void {
    if (record !== null) this.doubted = record.generation.id
    else if (this.isLost) this.doubted = whichever
  }

  doubts({ generation }: VolumeRecord): boolean {
    return this.doubted === whichever || this.doubted === generation.id
  }

  /** It is durable who is in sync now: what other heads did before does not matter any more. */
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
