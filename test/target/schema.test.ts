import { readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { expect } from 'chai'
import { fileAt, generate, read } from '../../schemas/generate.ts'
import { defaultLimits } from '../../src/net/limits.ts'
import { nbdDefaults } from '../../src/nbd/remote.ts'
import { mirrorDefaults } from '../../src/mirror/settings.ts'
import { checkConfig } from '../../src/target/config.ts'
import type * as config from '../../src/target/config.types.ts'
import { limitsOf } from '../../src/target/quantities.ts'
import { nbdOptions, remoteOptions } from '../../src/target/remotes.ts'
import { mirrorSettings } from '../../src/target/settings.ts'
import { defaultRemoteOptions } from '../../src/wire/remote-options.ts'

/** A device with its defaults filled in. */
function filled(device: object): config.Device {
  return checkConfig({ devices: { it: device } }, '/').config.devices['it']!
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

  it('have the defaults of the code', () => {
    expect(limitsOf(checkConfig({}, '/').config.limits)).to.deep.equal(defaultLimits)
    const mirror = filled({ type: 'mirror', legs: { a: { type: 'memory', size: '1M' } } })
    expect(mirrorSettings(mirror as config.Mirror)).to.deep.equal(mirrorDefaults)
    const remote = filled({ type: 'remote', uri: 'dst://h/x' }) as config.Remote
    expect(remoteOptions(remote, false)).to.deep.equal(defaultRemoteOptions)
    const nbd = filled({ type: 'nbd', uri: 'nbd://h/x' }) as config.Nbd
    expect(nbdOptions(nbd)).to.deep.equal(nbdDefaults)
  })
})
