/** A JSON schema, as far as the document reads it. */
interface Schema {
  readonly title?: string
  readonly description?: string
  readonly type?: string | readonly string[]
  readonly $ref?: string
  readonly $defs?: Readonly<Record<string, Schema>>
  readonly properties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: boolean | Schema
  readonly required?: readonly string[]
  readonly items?: Schema
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly minimum?: number
  readonly maximum?: number
  readonly default?: unknown
  readonly examples?: readonly unknown[]
  readonly oneOf?: readonly Schema[]
  readonly then?: Schema
  readonly else?: Schema
}

const introduction = `# Configuration

<!-- Generated from schemas/config.schema.json by \`npm run schema\`; do not edit. -->

A target is described by one JSON file. \`dst check FILE\` checks it and says everything that is
wrong at once; \`dst check --print FILE\` shows it with every default filled in; \`dst serve FILE\`
serves it. An editor that knows JSON schemas helps while writing when the file names the schema in
\`$schema\`.

Relative paths, also those of unix sockets, are relative to the directory of the file.
`

/** The values that are described once and meant by many properties. */
const values = ['name', 'exportName', 'size', 'duration', 'period', 'mode', 'account', 'child']

/** The reference of the configuration, as Markdown. */
export function describeConfig(root: object): string {
  const schema = root as Schema
  const definitions = schema.$defs ?? {}
  const devices = (definitions['device']?.oneOf ?? []).map((each) => nameOf(each.$ref))
  const others = Object.keys(definitions).filter(
    (name) => name !== 'device' && !values.includes(name) && !devices.includes(name),
  )
  return [
    introduction,
    '## The file\n',
    schema.description,
    table(schema),
    '## Values\n',
    ...values.map((name) => value(name, definitions[name]!)),
    ...others.map((name) => section('##', name, definitions[name]!)),
    '## Devices\n',
    definitions['device']!.description,
    ...devices.map((name) => section('###', name, definitions[name]!)),
  ].join('\n')
}

function section(level: string, name: string, schema: Schema): string {
  return [`${level} ${name}\n`, schema.description ?? '', table(schema), examples(schema)].join(
    '\n',
  )
}

function value(name: string, schema: Schema): string {
  const shown = (schema.examples ?? []).map((each) => code(each)).join(', ')
  return `- **${name}**: ${schema.description ?? ''}${shown === '' ? '' : ` Examples: ${shown}.`}`
}

function table(schema: Schema): string {
  const rows = Object.entries(schema.properties ?? {}).map(([name, property]) => {
    const required = schema.required?.includes(name) === true ? 'required' : ''
    const standard = property.default === undefined ? required : code(property.default)
    const shown = (property.examples ?? []).map((each) => code(each)).join(', ')
    const text = `${property.description ?? ''}${shown === '' ? '' : ` Examples: ${shown}.`}`
    return `| \`${name}\` | ${kind(property)} | ${standard} | ${text.trim()} |`
  })
  return [
    '',
    '| property | value | default | meaning |',
    '| --- | --- | --- | --- |',
    ...rows,
    '',
  ].join('\n')
}

function kind(schema: Schema): string {
  if (schema.$ref !== undefined) {
    const name = nameOf(schema.$ref)
    const heading = values.includes(name) ? 'values' : name.toLowerCase()
    return `[${name}](#${heading === 'device' ? 'devices' : heading})`
  }
  if (schema.then !== undefined && schema.else !== undefined)
    return `${kind(schema.else)}, or a ${kind(schema.then)}`
  if (schema.const !== undefined) return code(schema.const)
  if (schema.enum !== undefined) return schema.enum.map(code).join(', ')
  if (schema.items !== undefined) return `list of ${kind(schema.items)}`
  if (typeof schema.additionalProperties === 'object')
    return `by name: ${kind(schema.additionalProperties)}`
  if (schema.minimum !== undefined && schema.maximum !== undefined)
    return `${String(schema.type)}, ${schema.minimum} to ${schema.maximum}`
  return String(schema.type)
}

function examples(schema: Schema): string {
  return (schema.examples ?? [])
    .map((each) => `\n\`\`\`json\n${JSON.stringify(each, null, 2)}\n\`\`\`\n`)
    .join('')
}

function nameOf(reference: string | undefined): string {
  return (reference ?? '').replace('#/$defs/', '')
}

function code(value: unknown): string {
  return `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``
}
