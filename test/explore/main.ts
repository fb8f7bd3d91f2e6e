import { readFileSync } from 'node:fs'
import { defaults, faultKinds, type Configuration, type FaultKind } from './config.ts'
import { defects, withDefect } from './defects.ts'
import { explore, type Outcome } from './engine.ts'
import { replay, scriptOf } from './script.ts'
import { World } from './world.ts'

/** `npm run explore -- legs=2 extents=1 writes=2 flushes=1 faults=2 kinds=restart,away` */
function configurationOf(words: readonly string[]): Configuration {
  const given = new Map(words.map((word) => word.split('=') as [string, string]))
  const number = (name: string, otherwise: number): number => Number(given.get(name) ?? otherwise)
  const kinds = given.get('kinds')?.split(',') as FaultKind[] | undefined
  return {
    heads: number('heads', 1) === 2 ? 2 : 1,
    legs: number('legs', defaults.legs),
    extents: number('extents', defaults.extents),
    writes: number('writes', defaults.writes),
    flushes: number('flushes', defaults.flushes),
    width: number('width', defaults.width),
    cleanings: number('cleanings', defaults.cleanings),
    checkpoints: number('checkpoints', defaults.checkpoints),
    minInSync: number('minInSync', defaults.minInSync),
    faults: number('faults', defaults.faults),
    kinds: new Set(kinds ?? faultKinds),
    forcedFlushes: given.get('forced') === 'flush',
    reduce: given.get('reduce') !== 'no',
  }
}

const words = process.argv.slice(2)
const secondsMax = Number(words.find((word) => word.startsWith('seconds='))?.slice(8) ?? 600)
const bounds = { statesMax: 500_000_000, secondsMax }

function print(name: string, { states, depth, seconds, complete, violation }: Outcome): void {
  const rate = Math.round(states / seconds)
  const all = complete ? 'all' : 'not all'
  const figures = `${states} states, ${depth} steps deep, ${seconds.toFixed(1)} s, ${rate} a second`
  console.log(`${name}: ${figures}, ${all}`)
  if (violation === null) return
  console.log(`    ${violation.what}`)
  console.log(scriptOf(violation.trace))
}

if (words.includes('defects')) {
  const only = words.find((word) => word.startsWith('only='))?.slice(5)
  for (const defect of defects) {
    if (only !== undefined && only !== defect.name) continue
    const configuration = { ...defaults, ...defect.configuration }
    const outcome = withDefect(defect, () => explore(new World(configuration), bounds))
    print(defect.name, outcome)
    if (outcome.violation === null) process.exitCode = 1
  }
} else if (words.includes('replay')) {
  const wrong = replay(new World(configurationOf(words)), readFileSync(0, 'utf8'))
  console.log(wrong === '' ? 'nothing is wrong' : wrong)
  if (wrong !== '') process.exitCode = 1
} else {
  const outcome = explore(new World(configurationOf(words)), bounds)
  print(words.join(' '), outcome)
  // One that was given up says nothing.
  if (!outcome.complete) process.exitCode = 1
}
