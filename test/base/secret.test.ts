import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import type { StorageError } from '../../src/base/errors.ts'
import {
  describeSource,
  parseSecretSource,
  readSecret,
  secretBytesMax,
  type SecretSource,
} from '../../src/base/secret.ts'

function sourceOf(text: string): SecretSource {
  const source = parseSecretSource(text)
  if (typeof source === 'string') throw new Error(source)
  return source
}

async function codeOf(text: string): Promise<string> {
  try {
    await readSecret(sourceOf(text), systemClock)
    return 'read'
  } catch (error) {
    return (error as StorageError).code
  }
}

describe('a secret', () => {
  let folder: string
  const credentials = process.env['CREDENTIALS_DIRECTORY']
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dst-secret-'))
  })
  afterEach(() => {
    if (credentials === undefined) delete process.env['CREDENTIALS_DIRECTORY']
    else process.env['CREDENTIALS_DIRECTORY'] = credentials
    rmSync(folder, { recursive: true })
  })

  it('is all bytes of a file that its owner alone may use', async () => {
    const path = join(folder, 'key')
    const bytes = Buffer.from([0, 10, 255, 10])
    writeFileSync(path, bytes, { mode: 0o600 })
    expect(await readSecret(sourceOf(`file:${path}`), systemClock)).to.deep.equal(bytes)
    for (const mode of [0o640, 0o604, 0o660]) {
      chmodSync(path, mode)
      expect(await codeOf(`file:${path}`), mode.toString(8)).to.equal('CONFIG')
    }
  })

  it('is no pipe, folder or device, and neither empty nor endless', async () => {
    const pipe = join(folder, 'pipe')
    execFileSync('mkfifo', ['-m', '600', pipe])
    expect(await codeOf(`file:${pipe}`), 'a pipe is not waited for').to.equal('CONFIG')
    expect(await codeOf(`file:${folder}`)).to.equal('CONFIG')
    expect(await codeOf('file:/dev/zero')).to.equal('CONFIG')
    writeFileSync(join(folder, 'empty'), '', { mode: 0o600 })
    expect(await codeOf(`file:${join(folder, 'empty')}`)).to.equal('CONFIG')
    writeFileSync(join(folder, 'long'), Buffer.alloc(secretBytesMax + 1), { mode: 0o600 })
    expect(await codeOf(`file:${join(folder, 'long')}`)).to.equal('CONFIG')
    expect(await codeOf('command:/bin/cat /dev/zero'), 'an endless command').to.equal('CONFIG')
  })

  it('may come later: what is not there yet is unavailable', async () => {
    delete process.env['CREDENTIALS_DIRECTORY']
    expect(await codeOf(`file:${join(folder, 'none')}`)).to.equal('UNAVAILABLE')
    expect(await codeOf('credential:none')).to.equal('UNAVAILABLE')
    expect(await codeOf('command:/bin/false')).to.equal('UNAVAILABLE')
    expect(await codeOf(`command:${join(folder, 'none')}`)).to.not.equal('read')
  })

  it('is a credential of the service manager', async () => {
    process.env['CREDENTIALS_DIRECTORY'] = folder
    writeFileSync(join(folder, 'disk'), 'from systemd', { mode: 0o440 })
    const bytes = await readSecret(sourceOf('credential:disk'), systemClock)
    expect(bytes.toString()).to.equal('from systemd')
  })

  it('is what a program prints, without a shell', async () => {
    const bytes = await readSecret(sourceOf('command:/bin/echo -n $HOME; a b'), systemClock)
    expect(bytes.toString()).to.equal('$HOME; a b')
  })

  it('has a place in one of three forms; the words of a command are told to nobody', () => {
    for (const wrong of [
      'secret',
      'file:',
      'credential:../x',
      'credential:..',
      'credential:',
      'command:',
      'command:cat x',
      'file:a\0b',
    ])
      expect(parseSecretSource(wrong), wrong).to.be.a('string')
    expect(describeSource(sourceOf('command:/bin/echo secret'))).to.equal('/bin/echo')
  })
})
