import { readdirSync, readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { expect } from 'chai'
import { fileAt, generate, read } from '../../schemas/generate.ts'
import { nbdDefaults } from '../../src/nbd/remote.ts'
import { mirrorDefaults } from '../../src/mirror/settings.ts'
import { checkConfig } from '../../src/config/config.ts'
import type * as config from '../../src/config/config.types.ts'
import { childrenOf, type Loose } from '../../src/config/tree.ts'
import { nbdOptions, remoteOptions } from '../../src/daemon/remotes.ts'
import { mirrorSettings } from '../../src/daemon/settings.ts'
import { defaultRemoteOptions } from '../../src/wire/remote-options.ts'

/** A device with its defaults filled in. */
function filled(device: object): config.Device {
  return checkConfig({ devices: { it: device } }, '/').config.devices['it']!
}

/** What an example in a document is of: a device, or a whole configuration; null for a part. */
function definitionOf(example: unknown): string | null {
  if (typeof example !== 'object' || example === null) return null
  if ('type' in example) return 'config#/$defs/device'
  return 'devices' in example || 'listeners' in example ? 'config' : null
}

describe('the schemas', () => {
  it('are what types and documents were generated from', async () => {
    for (const { path, text } of await generate())
      expect(readFileSync(fileAt(path), 'utf8'), `${path}: npm run schema`).to.equal(text)
  })

  it('have examples that pass', () => {
    const schema = read('schemas/config.schema.json') as {
      $defs: Record<string, { examples?: unknown[] }>
    }
    const ajv = new Ajv2020({ strict: true, allowUnionTypes: true, discriminator: true })
    ajv.addSchema(schema, 'config')
    for (const [name, { examples = [] }] of Object.entries(schema.$defs))
      for (const example of examples) {
        const validate = ajv.getSchema(`config#/$defs/${name}`)!
        expect(validate(example), `${name} ${JSON.stringify(validate.errors)}`).to.equal(true)
      }
  })

  it('pass the examples of README and docs', () => {
    const ajv = new Ajv2020({ strict: true, allowUnionTypes: true, discriminator: true })
    ajv.addSchema(read('schemas/config.schema.json'), 'config')
    const pages = readdirSync(fileAt('docs'), { recursive: true, encoding: 'utf8' })
    const paths = pages.filter((page) => page.endsWith('.md')).map((page) => `docs/${page}`)
    let found = 0
    for (const path of ['README.md', ...paths])
      for (const [, text] of readFileSync(fileAt(path), 'utf8').matchAll(/```json\n(.*?)```/gs)) {
        const example: unknown = JSON.parse(text!)
        const name = definitionOf(example)
        if (name === null) continue
        found++
        const validate = ajv.getSchema(name)!
        const why = `${path}: ${text!} ${JSON.stringify(validate.errors)}`
        expect(validate(example), why).to.equal(true)
      }
    expect(found).to.be.greaterThan(10)
  })

  it('have children where the configuration looks for them', () => {
    interface Definition {
      readonly properties?: { readonly type?: { readonly const?: string } }
      readonly examples?: readonly Loose[]
    }
    const schema: unknown = read('schemas/config.schema.json')
    const { $defs: definitions } = schema as { $defs: Record<string, Definition> }
    const parents = Object.values(definitions).filter(({ properties }) => {
      const isDevice = properties?.type?.const !== undefined
      return isDevice && /#\/\$defs\/(child|leg)"/.test(JSON.stringify(properties))
    })
    expect(parents.length).to.be.above(4)
    for (const { examples } of parents)
      expect(childrenOf(examples![0]!, ''), String(examples![0]!['type'])).to.not.deep.equal([])
  })

  it('have the defaults that the page about mirrors tells', () => {
    const schema = read('schemas/config.schema.json') as {
      $defs: { mirror: { properties: Record<string, { default?: unknown }> } }
    }
    const { properties } = schema.$defs.mirror
    const page = readFileSync(fileAt('docs/devices/mirror.md'), 'utf8')
    const told = new Map<string, string>()
    for (const [, names, values] of page.matchAll(/^\| (`[^|]*`) \| ([^|]*?) ?\|/gm)) {
      const keys = [...names!.matchAll(/`([^`]*)`/g)].map(([, key]) => key!)
      const defaults = values!.split(', ')
      if (keys.length === defaults.length)
        for (const [at, key] of keys.entries()) told.set(key, defaults[at]!)
    }
    for (const [key, { default: value }] of Object.entries(properties)) {
      if (typeof value === 'boolean') expect(told.get(key), key).to.equal(value ? 'on' : 'off')
      if (typeof value === 'number' || typeof value === 'string')
        expect(told.get(key), key).to.equal(`${value}`)
    }
  })

  it('have the defaults of the code', () => {
    const mirror = filled({ type: 'mirror', legs: { a: { type: 'memory', size: '1M' } } })
    expect(mirrorSettings(mirror as config.Mirror)).to.deep.equal(mirrorDefaults)
    const remote = filled({ type: 'remote', uri: 'dst://h/x' }) as config.Remote
    expect(remoteOptions(remote, 'alone')).to.deep.equal(defaultRemoteOptions)
    const nbd = filled({ type: 'nbd', uri: 'nbd://h/x' }) as config.Nbd
    expect(nbdOptions(nbd)).to.deep.equal(nbdDefaults)
  })
})
