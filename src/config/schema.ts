import { readFileSync } from 'node:fs'
import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js'
import { durationMeant } from '../base/duration.ts'
import { sizeMeant } from '../base/size.ts'
import { step, type Problem } from './source.ts'
import { suggestion } from './suggest.ts'

/** Reads a schema of the project by its file's name. */
export function readSchema(name: string): object {
  // Compiled, this file is three levels below the top of the project.
  const place = new URL(`../../../schemas/${name}`, import.meta.url)
  return JSON.parse(readFileSync(place, 'utf8')) as object
}

let compiled: ValidateFunction | null = null

/** Fills in defaults, in place, and returns all problems that the schema finds. */
export function checkAgainstSchema(value: unknown): readonly Problem[] {
  compiled ??= new Ajv2020({
    allErrors: true,
    strict: true,
    allowUnionTypes: true,
    // Check one branch instead of all: the errors of the others would only confuse.
    discriminator: true,
    useDefaults: true,
    verbose: true,
  }).compile(readSchema('config.schema.json'))
  if (compiled(value)) return []
  return (compiled.errors ?? []).filter((error) => !echoes.has(error.keyword)).map(explain)
}

/** Keywords whose errors only repeat what another error says. */
const echoes = new Set(['if', 'discriminator', 'propertyNames'])

function explain(error: ErrorObject): Problem {
  const parameters = error.params as Record<string, unknown>
  const schema = error.parentSchema as { description?: string; properties?: object }
  const found = shown(error.data)
  const pointer = error.instancePath
  switch (error.keyword) {
    case 'additionalProperties': {
      const name = String(parameters['additionalProperty'])
      const known = Object.keys(schema.properties ?? {})
      const what = `unknown property "${name}"${suggestion(name, known)}`
      return { what: `${what}; allowed: ${known.join(', ')}`, pointer: step(pointer, name) }
    }
    case 'required':
      return { what: missing(String(parameters['missingProperty']), schema.properties), pointer }
    case 'enum': {
      const allowed = (parameters['allowedValues'] as unknown[]).map(String)
      const meant = typeof error.data === 'string' ? suggestion(error.data, allowed) : ''
      return { what: `found ${found}${meant}; allowed: ${allowed.join(', ')}`, pointer }
    }
    case 'type': {
      const allowed = [parameters['type']].flat().join(' or ')
      return { what: `found ${found}, allowed: ${allowed}${example(error.parentSchema)}`, pointer }
    }
    case 'pattern':
      if (error.propertyName !== undefined)
        return {
          what: `"${error.propertyName}" cannot be used. ${schema.description ?? ''}`,
          pointer: step(pointer, error.propertyName),
        }
      return { what: `found ${found}${meant(error)}. ${schema.description ?? ''}`, pointer }
    default:
      return {
        what: `found ${found}, ${error.message ?? 'not allowed'}${example(error.parentSchema)}`,
        pointer,
      }
  }
}

/** Says that a property is missing, with an example. */
function missing(name: string, properties: object | undefined): string {
  const schema = Object.entries(properties ?? {}).find(([known]) => known === name)?.[1] as unknown
  const value = exampleOf(schema)
  const like = value === undefined ? '' : `, such as "${name}": ${JSON.stringify(value)}`
  return `"${name}" is missing${like}`
}

function example(schema: unknown): string {
  const value = exampleOf(schema)
  return value === undefined ? '' : `, such as ${JSON.stringify(value)}`
}

interface Described {
  readonly $ref?: string
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly examples?: readonly unknown[]
  readonly type?: unknown
  readonly minimum?: number
  readonly properties?: Readonly<Record<string, unknown>>
  readonly required?: readonly string[]
  readonly additionalProperties?: unknown
}

/** The nesting of values that an example shows. */
const exampleLevels = 3

/** A value that the schema allows, if possible its own example; undefined if none can be made. */
function exampleOf(schema: unknown, levels = exampleLevels): unknown {
  if (typeof schema !== 'object' || schema === null || levels === 0) return undefined
  const { $ref, const: only, enum: several, examples, type, minimum } = schema as Described
  const own = examples?.[0] ?? only ?? several?.[0] ?? minimum
  if (own !== undefined) return own
  if ($ref !== undefined) {
    const all = ($defs ??= (readSchema('config.schema.json') as { $defs: Definitions }).$defs)
    return exampleOf(all[$ref.replace('#/$defs/', '')], levels)
  }
  if (type === 'boolean') return true
  return type === 'object' ? exampleObject(schema, levels - 1) : undefined
}

/** An object with its required properties, or with its first one if none is required. */
function exampleObject(schema: Described, levels: number): unknown {
  const { properties = {}, required = [], additionalProperties: any } = schema
  const inner = typeof any === 'object' ? exampleOf(any, levels) : undefined
  const names = required.length > 0 ? required : Object.keys(properties).slice(0, 1)
  const parts = names.map((name) => [name, exampleOf(properties[name], levels)] as const)
  if (parts.length === 0) return inner === undefined ? undefined : { left: inner }
  return parts.every(([, value]) => value !== undefined) ? Object.fromEntries(parts) : undefined
}

type Definitions = Readonly<Record<string, unknown>>
let $defs: Definitions | null = null

/** Guesses which size or time was meant; '' without a guess. */
function meant({ data, schemaPath }: ErrorObject): string {
  if (typeof data !== 'string') return ''
  if (schemaPath.includes('/size/')) return sizeMeant(data)
  return /\/(duration|period)\//.test(schemaPath) ? durationMeant(data) : ''
}

/** The value as JSON, cut short. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) as string | undefined
  if (text === undefined) return 'nothing'
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}
