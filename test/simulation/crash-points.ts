import { blows, type Blow } from './blows.ts'
import { Dice } from './dice.ts'
import type { EffectKind } from './effects.ts'
import { outcomeOf, type Outcome } from './run.ts'
import { Actor, houses, scripts, type Script } from './scripts.ts'
import { Stage, type StageOptions } from './stage.ts'
import type { Leg } from './trees.ts'
import type { World } from './world.ts'

/** A blow at the moment of an effect, counted from where the script begins. */
export interface Strike {
  readonly at: number
  readonly blow: Blow
  /** Whom it hits, where the effect is about no leg or the blow is to hit another. */
  readonly leg: number
}

/** A script on a volume, and what goes wrong in it. */
export interface Play {
  readonly script: Script
  readonly house: keyof typeof houses
  readonly strikes: readonly Strike[]
}

/** A prime number, larger than the effects of a script. */
const strideOfSingles = 7919
/** Effects between the two blows of a pair, at most. */
const gapMax = 20

/** A script on a volume, and how many effects it has when all goes well. */
interface Staging {
  readonly script: Script
  readonly house: keyof typeof houses
  readonly effects: number
}

/** All plays of some scripts, by number: each blow at each effect, or pairs of them by chance. */
export class Plays {
  private readonly stagings: readonly Staging[]
  /** Those without a blow come first. */
  private readonly singles: readonly Play[]
  private readonly undisturbed: number

  private constructor(stagings: readonly Staging[], blow: string) {
    this.stagings = stagings
    const undisturbed = stagings.map((staging): Play => ({ ...staging, strikes: [] }))
    const singles = stagings.flatMap((staging) => [...singlesOf(staging, blow)])
    this.undisturbed = undisturbed.length
    this.singles = [...undisturbed, ...singles]
  }

  /**
   * Of the scripts and houses whose names hold `only`: `writes`, `writes, forced`, or '' for all;
   * and with the blow of that name, or '' for every one.
   */
  static async of(only: string, blow = ''): Promise<Plays> {
    const stagings: Staging[] = []
    for (const script of scripts)
      for (const house of script.houses) {
        if (!`${script.name}, ${house}`.includes(only)) continue
        const { effects } = await play({ script, house, strikes: [] })
        stagings.push({ script, house, effects })
      }
    return new Plays(stagings, blow)
  }

  /** How many plays with at most one blow there are. */
  get length(): number {
    return this.singles.length
  }

  /** Those that follow each other have little in common. */
  single(number: number): Play {
    if (number < this.undisturbed) return this.singles[number]!
    const blows = this.length - this.undisturbed
    return this.singles[this.undisturbed + ((number * strideOfSingles) % blows)]!
  }

  /** One of a number without end, of blows at effects that are near each other. */
  pair(number: number): Play {
    const dice = new Dice(number)
    const { script, house, effects } = dice.pick(this.stagings)
    const legs = houses[house].legs.length
    const strike = (at: number): Strike => ({ at, blow: dice.pick(blows), leg: dice.below(legs) })
    const first = strike(dice.integer(1, effects))
    return { script, house, strikes: [first, strike(first.at + dice.integer(0, gapMax))] }
  }
}

function* singlesOf({ script, house, effects }: Staging, only: string): Generator<Play> {
  const { legs } = houses[house]
  const chosen = blows.filter(({ name }) => only === '' || name === only)
  for (let at = 1; at <= effects; at++)
    for (const blow of chosen)
      for (let leg = 0; leg < legs.length; leg++) {
        if (leg > 0 && !aims(blow)) continue
        if (blow.far && legs[leg] === 'local') continue
        yield { script, house, strikes: [{ at, blow, leg }] }
      }
}

/** Whether it matters which leg it hits. */
function aims({ name }: Blow): boolean {
  return !['killHead', 'crashHead', 'blackout', 'failSaves', 'hangSaves'].includes(name)
}

export function nameOf({ script, house, strikes }: Play): string {
  const blows = strikes.map(({ at, blow, leg }) => `${blow.name} ${leg} at ${at}`)
  return [script.name, house, ...blows].join(', ')
}

/** What `nameOf` calls so. */
export function playOf(name: string): Play {
  const [title, house, ...struck] = name.split(', ')
  const script = scripts.find((one) => one.name === title)
  if (script === undefined || house === undefined || !(house in houses))
    throw new Error(`there is no script ${title}, ${house}`)
  const strikes = struck.map((text): Strike => {
    const [, blowName, leg, at] = /^(\w+) (\d+) at (\d+)$/.exec(text) ?? []
    const blow = blows.find((one) => one.name === blowName)
    if (blow === undefined) throw new Error(`there is no blow ${text}`)
    return { blow, leg: Number(leg), at: Number(at) }
  })
  return { script, house: house as keyof typeof houses, strikes }
}

/** Plays a script to its end, and looks at everything. */
export async function play(
  { script, house, strikes }: Play,
  echo = false,
): Promise<Outcome & { effects: number }> {
  const { settings, ...rest } = script.options ?? {}
  const place: StageOptions = houses[house]
  const options = { ...place, ...rest, settings: { ...place.settings, ...settings } }
  const stage = new Stage({ extents: 2, hold: 200, ...options })
  const { world } = stage
  let effects = 0
  const outcome = await outcomeOf(world, echo, async () => {
    await stage.start()
    const striker = new Striker(world, strikes)
    await script.play(new Actor(stage))
    effects = striker.stop()
    world.network.healAll()
    await world.conclude()
  })
  return { ...outcome, name: nameOf({ script, house, strikes }), effects }
}

/** Counts effects, and strikes where it is told to. */
class Striker {
  private readonly world: World
  private readonly strikes: readonly Strike[]
  private count = 0

  constructor(world: World, strikes: readonly Strike[]) {
    this.world = world
    this.strikes = strikes
    world.effects.watch(this.watcher)
  }

  /** Returns how many effects there were. */
  stop(): number {
    this.world.effects.unwatch(this.watcher)
    return this.count
  }

  private readonly watcher = (kind: EffectKind, leg: Leg | null): void => {
    const { world } = this
    this.count++
    for (const strike of this.strikes) {
      if (strike.at !== this.count) continue
      const { blow } = strike
      const aim = world.legs[strike.leg]!
      if (blow.far && aim.target === null) continue
      world.trace.note(`${blow.name} of ${aim.name} at ${kind} ${leg?.name ?? ''}`)
      world.startDisturbed ||= world.head?.device.usable !== true
      blow.strike(world, aim)
    }
  }
}
