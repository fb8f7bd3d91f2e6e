import { Ajv2020 } from 'ajv/dist/2020.js'
import { readFileSync } from 'node:fs'
import { referenceServer } from './compare.ts'
import { comparedKey, regressionKeys, regressionSuite, roundsMin } from './regression.ts'
import { ourServer, reportVersion, type Report } from './report.ts'
import { patterns } from './work.ts'

const positive = { type: 'number', exclusiveMinimum: 0 } as const

/** What a row that is compared has to have; JSON writes what is no number as null. */
const rowSchema = {
  type: 'object',
  required: ['setting', 'server', 'work', 'rounds'],
  properties: {
    setting: { type: 'string' },
    server: { type: 'string' },
    work: {
      type: 'object',
      required: ['pattern', 'blockSize', 'depth'],
      properties: { pattern: { enum: patterns }, blockSize: positive, depth: positive },
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
  required: ['rows'],
  properties: {
    rows: {
      type: 'array',
      items: {
        type: 'object',
        required: ['suite'],
        properties: { suite: { type: 'string' } },
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
  const rows = report.rows.filter(({ suite }) => suite === regressionSuite)
  const keysOf = (server: string): Set<string> =>
    new Set(rows.filter((row) => row.server === server).map(comparedKey))
  const [ours, beside] = [keysOf(ourServer), keysOf(referenceServer)]
  if (!regressionKeys().some((key) => ours.has(key) && beside.has(key)))
    throw new Error(
      `${path} has no rows to compare with: ` +
        `it needs the suite ${regressionSuite}, with ${ourServer} and ${referenceServer}`,
    )
  return report
}

function parse(path: string): { readonly version?: unknown } | null {
  const text = readFileSync(path, 'utf8')
  try {
    return JSON.parse(text) as { readonly version?: unknown } | null
  } catch (error) {
    throw new Error(`${path} is no report: ${(error as Error).message}`, { cause: error })
  }
}
