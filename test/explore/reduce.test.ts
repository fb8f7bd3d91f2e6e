import { expect } from 'chai'
import { defaults, type Configuration, type FaultKind } from './config.ts'
import { defects, withDefect } from './defects.ts'
import { explore } from './engine.ts'
import { Odometer } from './odometer.ts'
import { Pack } from './pack.ts'
import { World } from './world.ts'

const bounds = { statesMax: 150_000, secondsMax: 60 }
const small = { writes: 1, flushes: 0, width: 1 }

/** Of the wrong rules these are seen in a small search, reduced or not. */
const seen = [
  'no-crash-recovery',
  'intent-cleared-unflushed',
  'cache-loss-ignored',
  'last-leg-goes-on',
  'joined-unmapped',
  'min-in-sync-ignored',
  'claims-ignored',
  'start-as-seen-before',
]

function verdict(changes: Partial<Configuration>): string {
  const { violation, complete } = explore(new World({ ...defaults, ...changes }), bounds)
  return violation === null ? `nothing is wrong, ${complete ? 'all' : 'not all'}` : 'wrong'
}

/** The state as it is whatever legs and extents are called. */
function nameless(world: World, pack: Pack): string {
  const forms: string[] = []
  pack.beginWriting()
  world.transfer(pack)
  for (let renaming = 0; ; renaming++) {
    pack.beginWriting()
    if (!world.writeRenamed(pack, renaming)) break
    forms.push(Buffer.from(pack.bytes.subarray(0, pack.at)).toString('latin1'))
  }
  return forms.sort()[0]!
}

/** Everything that may come next, whatever legs and extents are called. */
function following(world: World, pack: Pack, bytes: Uint8Array): Set<string> {
  const odometer = new Odometer()
  const found = new Set<string>()
  const read = (): void => {
    pack.beginReading(bytes, 0)
    world.transfer(pack)
  }
  read()
  world.list()
  for (let move = 0; move < world.listed; move++)
    do {
      read()
      world.happen(move, odometer.choose)
      found.add(nameless(world, pack))
    } while (odometer.next())
  return found
}

/** Some states, each packed with all names that its legs and extents can have. */
function renamed(configuration: Configuration, count: number): Uint8Array[][] {
  const world = new World(configuration)
  world.reduces = false
  const pack = new Pack()
  const states: Uint8Array[][] = []
  world.reset()
  // By one way after another, each somewhere else in the list.
  for (let at = 0; states.length < count; at++) {
    pack.beginWriting()
    world.transfer(pack)
    const names: Uint8Array[] = []
    for (let renaming = 0; ; renaming++) {
      pack.beginWriting()
      if (!world.writeRenamed(pack, renaming)) break
      names.push(pack.bytes.slice(0, pack.at))
    }
    states.push(names)
    pack.beginReading(names[0]!, 0)
    world.transfer(pack)
    world.list()
    let chosen = at
    if (world.listed === 0) world.reset()
    else world.happen((at * at) % world.listed, (of) => (chosen = chosen * 7 + 3) % of)
  }
  return states
}

describe('a search that leaves out what says nothing', () => {
  for (const defect of defects.filter(({ name }) => seen.includes(name)))
    it(`finds, as a whole search does, that ${defect.breaks.replace(/^\d: /, '')}`, () => {
      const found = [true, false].map((reduce) =>
        withDefect(defect, () => verdict({ ...defect.configuration, reduce })),
      )
      expect(found).to.deep.equal(['wrong', 'wrong'])
    })

  const whole: readonly (readonly [string, Partial<Configuration>])[] = [
    ['one fault of every kind', { ...small, faults: 1 }],
    [
      'two legs that go away',
      { ...small, cleanings: 0, faults: 2, kinds: new Set<FaultKind>(['away']) },
    ],
    ['a second head', { ...small, heads: 2, cleanings: 0, faults: 0 }],
    [
      'a second head, and a flush that fails',
      { ...small, heads: 2, cleanings: 0, kinds: new Set<FaultKind>(['flush']) },
    ],
    [
      'a second head, and a record that cannot be saved',
      { ...small, heads: 2, cleanings: 0, kinds: new Set<FaultKind>(['store']) },
    ],
    ['two extents and a crash', { ...small, extents: 2, kinds: new Set<FaultKind>(['crash']) }],
  ]
  for (const [what, changes] of whole)
    it(`finds nothing wrong where a whole search finds nothing: ${what}`, () => {
      for (const reduce of [true, false])
        expect(verdict({ ...changes, reduce })).to.equal('nothing is wrong, all')
    })

  it('may take legs and extents that differ by name alone as one', () => {
    for (const more of [{ legs: 3 }, { extents: 2, writes: 2 }, { heads: 2 as const }]) {
      const configuration = { ...defaults, ...small, ...more, faults: 3 }
      const world = new World(configuration)
      world.reduces = false
      const pack = new Pack()
      for (const [first, ...others] of renamed(configuration, 150)) {
        const next = following(world, pack, first!)
        for (const other of others) expect(following(world, pack, other)).to.deep.equal(next)
      }
    }
  })
})
