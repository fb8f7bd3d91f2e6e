import { readFileSync, writeFileSync } from 'node:fs'
import { compile } from 'json-schema-to-typescript'
import { format, resolveConfig } from 'prettier'
import { isObject } from '../src/base/guards.ts'
import { describeConfig } from './document.ts'

/** Written by `npm run schema`, and compared by a test: what follows from the schemas. */
export interface Generated {
  /** Relative to the top of the project. */
  readonly path: string
  readonly text: string
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

export async function generate(): Promise<readonly Generated[]> {
  const config = read('schemas/config.schema.json')
  return [
    await types('src/config/config.types.ts', 'schemas/config.schema.json'),
    await types('src/manage/status.types.ts', 'schemas/status.schema.json'),
    await pretty('docs/configuration.md', describeConfig(config)),
  ]
}

/** The types of a schema. Only types have a comment: what a property means stands in the schema. */
async function types(path: string, source: string): Promise<Generated> {
  const { $defs: definitions, ...root } = read(source)
  const types = Object.entries(definitions as Record<string, Json>)
  const $defs = Object.fromEntries(types.map(([name, each]) => [name, definition(each)]))
  const text = await compile({ ...definition(root), $defs }, 'Root', {
    additionalProperties: false,
    bannerComment:
      `// Generated from ${source} by \`npm run schema\`; do not edit.\n` +
      '// The schema says what each property means, and its unit.',
    format: false,
  })
  // Prettier leaves the line breaks where they are: of objects by name, of short comments.
  const objects = text.replaceAll(/\{\n(\[k: string\]: \w+)\n\}/g, '{ $1 }')
  return pretty(path, objects.replaceAll(/\/\*\*\n \* (.*)\n \*\//g, '/** $1 */'))
}

/** A schema that becomes a type, with its description broken into lines that fit into a comment. */
function definition(schema: Json): object {
  const { description } = schema as { readonly description: string }
  const text = description.replaceAll(/(.{1,90})(?: |$)/g, '$1\n').trimEnd()
  return { ...(forTypes(schema) as object), description: text }
}

/** What tells nothing of a type. */
const untyped = new Set(['description', 'examples', 'minItems'])

/**
 * The schema as the types see it: what has a default is always there, because checking fills it
 * in, and a choice made by `if` is a union.
 */
function forTypes(schema: Json): Json {
  if (Array.isArray(schema)) return schema.map(forTypes)
  if (schema === null || typeof schema !== 'object') return schema
  const { $ref, if: condition, then, else: otherwise, discriminator, oneOf } = schema
  if ($ref !== undefined) return { $ref }
  if (condition !== undefined && then !== undefined) {
    const named = [schema['type']].flat().includes('string') ? [{ type: 'string' }] : []
    const choices = [...named, then, ...(otherwise === undefined ? [] : [otherwise])]
    return { anyOf: choices.map(forTypes) }
  }
  // The alternatives name their `type` themselves.
  if (discriminator !== undefined) return { oneOf: oneOf! }
  const mapped = Object.fromEntries(
    // A property may have any of these names; only an object describes one.
    Object.entries(schema)
      .filter(([key, value]) => !untyped.has(key) || isObject(value))
      .map(([key, value]) => [key, forTypes(value)]),
  )
  const { properties } = schema
  if (!isObject(properties)) return mapped
  const filled = Object.entries(properties).filter(
    ([, value]) => isObject(value) && 'default' in value,
  )
  const required = Array.isArray(schema['required']) ? schema['required'] : []
  return { ...mapped, required: [...required, ...filled.map(([key]) => key)] }
}

async function pretty(path: string, text: string): Promise<Generated> {
  const options = await resolveConfig(fileAt(path))
  return { path, text: await format(text, { ...options, filepath: path }) }
}

export function read(path: string): Record<string, Json> {
  return JSON.parse(readFileSync(fileAt(path), 'utf8')) as Record<string, Json>
}

/** Compiled, this file is two levels below the top of the project. */
export function fileAt(path: string): URL {
  return new URL(`../../${path}`, import.meta.url)
}

if (process.argv[1] === new URL(import.meta.url).pathname)
  for (const { path, text } of await generate()) writeFileSync(fileAt(path), text)
