import { Ajv2020 } from 'ajv/dist/2020.js'
import { readFileSync } from 'node:fs'
import { referenceServer } from './compare.ts'
import { comparedKey, notPlaced, regressionKeys, regressionSuite, roundsMin } from './regression.ts'
import { ourServer, reportVersion, type Report } from '../report/report.ts'
import { patterns } from '../clients/work.ts'

const positive = { type: 'number', exclusiveMinimum: 0 } as const
const text = { type: 'string' } as const

/** What makes figures of two machines differ. */
const machineFacts = ['processor', 'cores', 'memoryBytes', 'kernel', 'node'] as const
const facts = Object.fromEntries(machineFacts.map((name) => [name, { type: ['number', 'string'] }]))

/** With all of these properties, and others. */
function object(properties: Readonly<Record<string, object>>): object {
  return { type: 'object', required: Object.keys(properties), properties }
}

/** What a row that is compared has to have; JSON writes what is no number as null. */
const rowSchema = object({
  setting: text,
  server: text,
  work: object({ pattern: { enum: patterns }, blockSize: positive, depth: positive }),
  rounds: {
    type: 'array',
    minItems: roundsMin,
    items: object({
      round: { type: 'integer', minimum: 0 },
      operations: positive,
      cpu: positive,
    }),
  },
})

const schema = object({
  machine: object({ commit: text, ...facts }),
  started: text,
  omitted: { type: 'array', items: text },
  rows: {
    type: 'array',
    items: {
      ...object({ suite: text }),
      if: { properties: { suite: { const: regressionSuite } } },
      then: rowSchema,
    },
  },
})

/**
 * A report of another run to compare with. Throws an Error that says why nothing can be told by it:
 * before an hour of measuring, not after.
 */
export function readEarlier(path: string): Report {
  const report = parse(path)
  if (report?.version !== reportVersion)
    throw new Error(`${path} was written by another version of the benchmark: measure it again`)
  const ajv = new Ajv2020({ strictTypes: false })
  const check = ajv.compile<Report>(schema)
  if (!check(report)) {
    const { instancePath, message } = check.errors!.at(0)!
    throw new Error(`${path} cannot be compared with: ${instancePath || 'it'} ${message ?? ''}`)
  }
  if (!regressionKeys().some((key) => comparableKeys(report).has(key)))
    throw new Error(
      `${path} has no rows to compare with: ` +
        `it needs the suite ${regressionSuite}, with ${ourServer} and ${referenceServer}`,
    )
  return report
}

/** Rows by which a report can be compared with another. */
function comparableKeys({ rows }: Report): Set<string> {
  const compared = rows.filter(({ suite }) => suite === regressionSuite)
  const keysOf = (server: string): string[] =>
    compared.filter((row) => row.server === server).map(comparedKey)
  const beside = new Set(keysOf(referenceServer))
  return new Set(keysOf(ourServer).filter((key) => beside.has(key)))
}

/** What makes a comparison worth less, or leaves something out of it: a line for each. */
export function caveats(before: Report, after: Report): string[] {
  const [old, now] = [comparableKeys(before), comparableKeys(after)]
  const placed = ({ omitted }: Report): string => (omitted.includes(notPlaced) ? 'no' : 'yes')
  return [
    ...(placed(before) === placed(after)
      ? []
      : [`on one processor: ${placed(before)} then, ${placed(after)} now`]),
    ...machineFacts
      .filter((fact) => before.machine[fact] !== after.machine[fact])
      .map((fact) => `${fact}: ${before.machine[fact]} then, ${after.machine[fact]} now`),
    ...[...old].filter((key) => !now.has(key)).map((key) => `only then: ${key}`),
    ...[...now].filter((key) => !old.has(key)).map((key) => `only now: ${key}`),
  ]
}

function parse(path: string): { readonly version?: unknown } | null {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as { readonly version?: unknown } | null
  } catch (error) {
    throw new Error(`${path} is no report: ${(error as Error).message}`, { cause: error })
  }
}
