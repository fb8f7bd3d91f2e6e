import { existsSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { dst, Workshop } from '../support/process.ts'
import type { Outcome } from '../support/programs.ts'

/** Options of a derivation that costs next to nothing. */
const cheap = ['--kdf', 'pbkdf2', '--iterations', '1000']

describe('dst crypt', () => {
  let workshop: Workshop
  beforeEach(() => {
    workshop = new Workshop()
    for (const name of ['a', 'b', 'c'])
      writeFileSync(at(`${name}.key`), `the key ${name}`, { mode: 0o600 })
  })
  afterEach(() => workshop.close())

  function at(name: string): string {
    return join(workshop.folder, name)
  }

  const run = (...words: string[]): Promise<Outcome> => dst(['crypt', ...words], workshop.folder)

  async function done(...words: string[]): Promise<string> {
    const { code, stdout, stderr } = await run(...words)
    expect(code, stderr).to.equal(0)
    return stdout
  }

  const format = (...words: string[]) => done('format', 'disk.img', ...words, ...cheap)
  const opens = async (key: string) =>
    (await run('check', 'disk.img', '--key', `file:${key}.key`)).code === 0

  it('makes a device, which a target then serves by a key of a file or program', async () => {
    await format('--size', '20M', '--key', 'file:a.key')
    expect(statSync(at('disk.img')).size).to.equal(20 * 1024 * 1024)
    const file = { type: 'file', path: 'disk.img' }
    for (const key of ['file:a.key', `command:/bin/cat ${at('a.key')}`]) {
      const target = await workshop.serve('target', {
        listeners: [{ protocol: 'nbd', address: 'unix:nbd.sock' }],
        management: { address: 'unix:m.sock' },
        devices: { disk: { type: 'crypt', device: file, key } },
        exports: { disk: { device: 'disk' } },
      })
      const { stdout } = await dst(['status', '--management', 'unix:m.sock'], workshop.folder)
      expect(stdout).to.match(/disk +online +crypt 4\.0 MiB/)
      const json = await dst(['status', '--json', '--management', 'unix:m.sock'], workshop.folder)
      expect(json.stdout).to.include('"luks2"').and.to.not.include('a.key')
      // The file is locked: no key is changed while a target has it.
      const busy = await run(
        'add-key',
        'disk.img',
        '--key',
        'file:a.key',
        '--new-key',
        'file:b.key',
      )
      expect(busy.code).to.equal(1)
      // To look needs no lock.
      expect(await opens('a')).to.equal(true)
      expect(await target.stop('SIGTERM')).to.equal(0)
    }
  })

  it('refuses what is not blank, unless it is forced', async () => {
    writeFileSync(at('disk.img'), Buffer.alloc(20 * 1024 * 1024))
    const file = readFileSync(at('disk.img'))
    file[file.length - 1] = 1
    writeFileSync(at('disk.img'), file)
    const refused = await run('format', 'disk.img', '--key', 'file:a.key', ...cheap)
    expect(refused).to.include({ code: 2 })
    expect(refused.stderr).to.include('--force')
    expect(readFileSync(at('disk.img')).equals(file), 'nothing was written').to.equal(true)
    await format('--key', 'file:a.key', '--force')
    const again = await run('format', 'disk.img', '--key', 'file:b.key', ...cheap)
    expect(again.code, 'an encrypted device is not blank').to.equal(2)
    expect(await opens('a')).to.equal(true)
  })

  it('exchanges a key, and never takes the last one', async () => {
    await format('--size', '20M', '--key', 'file:a.key')
    await done('add-key', 'disk.img', '--key', 'file:a.key', '--new-key', 'file:b.key', ...cheap)
    expect([await opens('a'), await opens('b'), await opens('c')]).to.deep.equal([
      true,
      true,
      false,
    ])
    const other = await run('remove-key', 'disk.img', '--key', 'file:c.key', '--slot', '0')
    expect(other.code, 'a key that stays has to be known').to.equal(1)
    await done('remove-key', 'disk.img', '--key', 'file:b.key', '--old-key', 'file:a.key')
    expect([await opens('a'), await opens('b')]).to.deep.equal([false, true])
    const last = await run('remove-key', 'disk.img', '--key', 'file:b.key', '--slot', '1')
    expect(last.code).to.equal(1)
    expect(await opens('b')).to.equal(true)
  })

  it('copies a header to a new file, for its owner alone', async () => {
    await format('--size', '20M', '--format', 'luks1', '--key', 'file:a.key')
    expect(await done('header-backup', 'disk.img', 'copy')).to.include('2.0 MiB')
    const copy = readFileSync(at('copy'))
    expect(copy.equals(readFileSync(at('disk.img')).subarray(0, copy.length))).to.equal(true)
    expect(statSync(at('copy')).mode & 0o777).to.equal(0o600)
    expect((await run('header-backup', 'disk.img', 'copy')).code, 'it is there').to.equal(1)
  })

  it('leaves no copy of a header that could not be read to its end', async () => {
    await format('--size', '20M', '--key', 'file:a.key')
    truncateSync(at('disk.img'), 10 * 1024 * 1024)
    const { code, stderr } = await run('header-backup', 'disk.img', 'copy')
    expect(code, stderr).to.equal(1)
    expect(existsSync(at('copy'))).to.equal(false)
  })

  it('works on an export of another target', async () => {
    await workshop.serve('target', {
      listeners: [{ protocol: 'dst', address: 'unix:dst.sock' }],
      devices: { disk: { type: 'memory', size: '20M' } },
      exports: { disk: { device: 'disk' } },
    })
    const uri = `dst+unix:///disk?socket=${at('dst.sock')}`
    await done('format', uri, '--key', 'file:a.key', ...cheap)
    expect(await done('check', uri, '--key', 'file:a.key')).to.include('the key opens keyslot 0')
  })

  it('takes no key from the command line, and says what is wrong with its words', async () => {
    for (const words of [
      ['format', 'disk.img', '--key', 'secret', '--size', '20M'],
      ['format', 'disk.img', '--key', 'file:a.key', '--size', 'large'],
      ['format', 'disk.img', '--key', 'file:a.key', '--format', 'luks1', '--sector-size', '4096'],
      ['format', 'disk.img', '--key', 'file:a.key', '--format', 'luks1', '--kdf', 'argon2id'],
      ['format', 'disk.img', '--key', 'file:a.key', '--iterations', '0', '--size', '20M'],
      ['remove-key', 'disk.img', '--key', 'file:a.key'],
    ])
      expect((await run(...words)).code, words.join(' ')).to.equal(2)
    expect(existsSync(at('disk.img'))).to.equal(false)
  })
})
