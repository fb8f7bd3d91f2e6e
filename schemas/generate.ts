import { readFileSync, writeFileSync } from 'node:fs'
import { compile, type JSONSchema } from 'json-schema-to-typescript'
import { format, resolveConfig } from 'prettier'
import { describeConfig } from './document.ts'

/** Written by `npm run schema`, and compared by a test: what follows from the schemas. */
export interface Generated {
  /** Relative to the top of the project. */
  readonly path: string
  readonly text: string
}

const statusSchema = 'schemas/status.schema.json'

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

export async function generate(): Promise<readonly Generated[]> {
  const config = read('schemas/config.schema.json')
  return [
    await types('src/config/config.types.ts', 'schemas/config.schema.json', config),
    await types('src/manage/status.types.ts', 'schemas/status.schema.json', read(statusSchema)),
    await pretty('docs/configuration.md', describeConfig(config)),
  ]
}

async function types(path: string, source: string, schema: Json): Promise<Generated> {
  const text = await compile(forTypes(schema) as JSONSchema, 'Root', {
    additionalProperties: false,
    bannerComment: `// Generated from ${source} by \`npm run schema\`; do not edit.`,
    format: false,
    ignoreMinAndMaxItems: true,
  })
  return pretty(path, text)
}

/**
 * The schema as the types see it: what has a default is always there, because checking fills it
 * in, and a choice made by `if` is a union.
 */
function forTypes(schema: Json): Json {
  if (Array.isArray(schema)) return schema.map(forTypes)
  if (schema === null || typeof schema !== 'object') return schema
  const { if: condition, then, else: otherwise, discriminator, ...rest } = schema
  if (condition !== undefined && then !== undefined) {
    const choices = [{ type: 'string' }, then, ...(otherwise === undefined ? [] : [otherwise])]
    return { description: wrap(rest['description'] ?? ''), anyOf: choices.map(forTypes) }
  }
  // The alternatives name their `type` themselves.
  if (discriminator !== undefined)
    return { ...keep(rest, ['oneOf']), description: wrap(rest['description'] ?? '') }
  const mapped = Object.fromEntries(
    Object.entries(rest)
      .filter(([key]) => key !== 'examples')
      .map(([key, value]) => [key, key === 'description' ? wrap(value) : forTypes(value)]),
  )
  const { properties } = schema
  if (properties === null || typeof properties !== 'object' || Array.isArray(properties))
    return mapped
  const filled = Object.entries(properties).filter(
    ([, value]) => value !== null && typeof value === 'object' && 'default' in value,
  )
  const required = Array.isArray(schema['required']) ? schema['required'] : []
  return { ...mapped, required: [...required, ...filled.map(([key]) => key)] }
}

/** Breaks a text into lines that fit into a comment; a property of that name is left alone. */
function wrap(description: Json): Json {
  if (typeof description !== 'string') return forTypes(description)
  return description.replaceAll(/(.{1,90})(?: |$)/g, '$1\n').trimEnd()
}

function keep(schema: Record<string, Json>, keys: readonly string[]): Record<string, Json> {
  return Object.fromEntries(Object.entries(schema).filter(([key]) => keys.includes(key)))
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
