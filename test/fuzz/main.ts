import yargs from 'yargs'
import { Engine, type Found, type Tally } from './engine.ts'
import { surfaces } from './surfaces.ts'
import type { Surface } from './trial.ts'

/** `npm run fuzz -- --seconds N [--seed S] [--only SURFACE [--case N]]` */
const words = await yargs(process.argv.slice(2))
  .scriptName('npm run fuzz --')
  .usage('Feeds hostile bytes to all ways in, and checks what comes of them.')
  .option('seconds', { type: 'number', describe: 'how long; 20 unless --bytes is given' })
  .option('bytes', { type: 'number', describe: 'stop after so many bytes' })
  .option('seed', { type: 'number', describe: 'repeats a run; left out, another each time' })
  .option('only', { type: 'string', describe: 'one surface', choices: surfaces.map(nameOf) })
  .option('case', { type: 'number', describe: 'one case of it', implies: 'only' })
  .strict()
  .parse()

function nameOf({ name }: Surface): string {
  return name
}

const seed = words.seed ?? Math.floor(Math.random() * 2 ** 31)
const chosen = surfaces.filter(({ name }) => words.only === undefined || name === words.only)

function tell({ surface, number, what }: Found): void {
  console.log(`FOUND in ${surface}, seed ${seed}, case ${number}: ${what}`)
  console.log(`again: npm run fuzz -- --seed ${seed} --only ${surface} --case ${number}\n`)
}

function line({ surface, cases, connections, bytes, spent, longest }: Tally): string {
  const counts = `${cases} cases, ${connections} connections, ${bytes} bytes`
  const rate = `${(spent / 1000).toFixed(1)} s, ${(bytes / 1000 / spent).toFixed(2)} MB/s`
  return `${surface}: ${counts}, ${rate}, longest step ${longest.toFixed(1)} ms`
}

const { bytes = Infinity } = words
const { seconds = words.bytes === undefined ? 20 : Infinity } = words
const engine = new Engine(chosen, { seed, seconds, bytes, onFound: tell })
if (words.case === undefined) {
  console.log(`seed ${seed}`)
  await engine.run()
  for (const tally of engine.tallies) console.log(line(tally))
  const total = (of: 'bytes' | 'cases'): number =>
    engine.tallies.reduce((sum, tally) => sum + tally[of], 0)
  const { length } = engine.found
  console.log(`${total('bytes')} bytes, ${total('cases')} cases, ${length} findings, seed ${seed}`)
  if (length > 0) process.exitCode = 1
} else {
  const found = await engine.one(chosen[0]!, words.case)
  if (found === null) console.log('nothing is wrong')
  else {
    tell(found)
    process.exitCode = 1
  }
}
for (const surface of chosen) await surface.close?.()
