import { Ajv2020 } from 'ajv/dist/2020.js'
import { readFileSync } from 'node:fs'
import { referenceServer } from './compare.ts'
import { comparedKey, regressionKeys, regressionSuite, roundsMin } from './regression.ts'
import { ourServer, reportVersion, type Report } from '../report/report.ts'
import { wasPlaced } from '../run/suites.ts'
import { patterns } from '../clients/work.ts'

const positive = { type: 'number', exclusiveMinimum: 0 } as const
const text = { type: 'string' } as const

/** What a row that is compared has to have; JSON writes what is no number as null. */
const rowSchema = {
  type: 'object',
  required: ['setting', 'server', 'work', 'rounds'],
  properties: {
    setting: text,
    server: text,
    work: {
      type: 'object',
      required: ['pattern', 'blockSize', 'depth'],
      properties: {
        pattern: { enum: patterns },
        blockSize: positive,
        depth: positive,
        connections: positive,
      },
    },
    rounds: {
      type: 'array',
      minItems: roundsMin,
      items: {
        type: 'object',
        required: ['round', 'operations', 'cpu'],
        properties: {
          round: { type: 'integer', minimum: 0 },
          operations: positive,
          cpu: positive,
        },
      },
    },
  },
} as const

const schema = {
  type: 'object',
  required: ['rows', 'machine', 'started', 'omitted'],
  properties: {
    machine: {
      type: 'object',
      required: ['commit', 'processor', 'cores', 'memoryBytes', 'kernel', 'node'],
      properties: {
        commit: text,
        processor: text,
        cores: { type: 'number' },
        memoryBytes: { type: 'number' },
        kernel: text,
        node: text,
      },
    },
    started: text,
    omitted: { type: 'array', items: text },
    rows: {
      type: 'array',
      items: {
        type: 'object',
        required: ['suite'],
        properties: { suite: text },
        if: { properties: { suite: { const: regressionSuite } } },
        then: rowSchema,
      },
    },
  },
} as const

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

const machineFacts = ['processor', 'cores', 'memoryBytes', 'kernel', 'node'] as const

/** What makes a comparison worth less, or leaves something out of it: a line for each. */
export function caveats(before: Report, after: Report): string[] {
  const [old, now] = [comparableKeys(before), comparableKeys(after)]
  const placed = [before, after].map(({ omitted }) => wasPlaced(omitted, regressionSuite))
  const wordFor = (yes: boolean | undefined): string => (yes === true ? 'yes' : 'no')
  return [
    ...(placed[0] === placed[1]
      ? []
      : [`on one processor: ${wordFor(placed[0])} then, ${wordFor(placed[1])} now`]),
    ...machineFacts
      .filter((fact) => before.machine[fact] !== after.machine[fact])
      .map((fact) => `${fact}: ${before.machine[fact]} then, ${after.machine[fact]} now`),
    ...[...old].filter((key) => !now.has(key)).map((key) => `only then: ${key}`),
    ...[...now].filter((key) => !old.has(key)).map((key) => `only now: ${key}`),
  ]
}

function parse(path: string): { readonly version?: unknown } | null {
  const text = readFileSync(path, 'utf8')
  try {
    return JSON.parse(text) as { readonly version?: unknown } | null
  } catch (error) {
    throw new Error(`${path} is no report: ${(error as Error).message}`, { cause: error })
  }
}
