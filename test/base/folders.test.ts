import { expect } from 'chai'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { StorageError } from '../../src/base/errors.ts'
import { makeFolder } from '../../src/base/folders.ts'

describe('making a folder', () => {
  let folder: string

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dst-folders-'))
  })

  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  async function failureOf(path: string): Promise<string> {
    const failed = await makeFolder(path).then(
      () => null,
      (error: unknown) => error as StorageError,
    )
    return failed?.message ?? 'made'
  }

  it('makes those above it as well, and is content with one that is there', async () => {
    const path = join(folder, 'a/b/c')
    await makeFolder(path, 0o700)
    await makeFolder(path)
    expect(statSync(path).mode & 0o777).to.equal(0o700)
    expect(statSync(join(folder, 'a')).mode & 0o777).to.equal(0o700)
  })

  it('serves several who make the same at once', async () => {
    // In most of these rounds one of them finds that a parent is there which was not just before.
    for (let round = 0; round < 20; round++) {
      const path = join(folder, `${round}/x/y/z`)
      await Promise.all(Array.from({ length: 20 }, () => makeFolder(path)))
      expect(statSync(path).isDirectory()).to.equal(true)
    }
  })

  it('ends where the system makes none although the parent is there', async function () {
    if (process.platform !== 'linux') this.skip()
    // With Node's own way this call never returns, and neither would a signal be heard.
    expect(await failureOf('/proc/nope')).to.match(/\/proc\/nope: \/proc takes no folders/)
    expect(await failureOf('/proc/nope/below')).to.contain('/proc/nope')
  })

  it('says that a file is in its place', async () => {
    writeFileSync(join(folder, 'file'), '')
    expect(await failureOf(join(folder, 'file'))).to.match(/file: a file is in its place$/)
    expect(await failureOf(join(folder, 'file/below'))).to.contain('ENOTDIR')
  })
})
