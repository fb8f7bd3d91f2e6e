import { expect } from 'chai'
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AuditFile } from '../../src/daemon/audit-file.ts'
import { ManualClock } from '../support/clock.ts'

describe('the file of an audit log', () => {
  const clock = new ManualClock()
  let folder: string
  let path: string
  let said: string[]
  let file: AuditFile

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dst-audit-'))
    path = join(folder, 'audit.log')
    said = []
    const changed = (problem: string, lost: number): void => {
      said.push(problem === '' ? `lost ${lost}` : problem)
    }
    file = new AuditFile(path, 0o640, clock, { changed })
  })
  afterEach(async () => {
    await file.close()
    rmSync(folder, { recursive: true })
  })

  it('is made with its mode, and gets the lines in order', async () => {
    for (const line of ['{"a":1}\n', '{"a":2}\n']) file.write(line)
    await file.look()
    file.write('{"a":3}\n')
    await file.close()
    expect(readFileSync(path, 'utf8')).to.equal('{"a":1}\n{"a":2}\n{"a":3}\n')
    expect(statSync(path).mode & 0o777).to.equal(0o640)
    expect(said).to.deep.equal([])
  })

  it('is appended to, behind a line without an end', async () => {
    writeFileSync(path, '{"torn":')
    file.write('{"a":1}\n')
    await file.look()
    expect(readFileSync(path, 'utf8')).to.equal('{"torn":\n{"a":1}\n')
  })

  it('is made anew once it was moved away', async () => {
    file.write('{"a":1}\n')
    await file.look()
    renameSync(path, `${path}.1`)
    file.write('{"a":2}\n')
    await file.look()
    expect(readFileSync(`${path}.1`, 'utf8')).to.equal('{"a":1}\n')
    expect(readFileSync(path, 'utf8')).to.equal('{"a":2}\n')
  })

  it('is nothing else: no image, no folder, no link', async () => {
    writeFileSync(path, Buffer.alloc(4096))
    file.write('{"a":1}\n')
    await file.look()
    expect(file.problem).to.contain('something else')
    expect(readFileSync(path)).to.deep.equal(Buffer.alloc(4096))
    rmSync(path)
    mkdirSync(path)
    await file.look()
    expect(file.problem).to.contain('EISDIR')
    rmSync(path, { recursive: true })
    writeFileSync(join(folder, 'other'), '')
    symlinkSync('other', path)
    await file.look()
    expect(file.problem).to.contain('ELOOP')
    rmSync(path)
    await file.look()
    expect(file.problem).to.equal('')
    expect(readFileSync(path, 'utf8')).to.equal('{"a":1}\n')
  })

  it('keeps lines while it cannot be written, up to a limit, and counts the lost', async () => {
    const blocked = join(folder, 'there', 'audit.log')
    file = new AuditFile(blocked, 0o600, clock, {
      changed: (problem, lost) => said.push(problem === '' ? `lost ${lost}` : 'cannot'),
    })
    const line = `{"text":"${'x'.repeat(1012)}"}\n`
    file.write(line)
    await file.look()
    for (let count = 0; count < 1100; count++) file.write(line)
    expect(file.lost).to.equal(1100 + 1 - 1024)
    mkdirSync(join(folder, 'there'))
    // It is tried again by itself.
    clock.advance(10_000)
    await file.look()
    expect(said).to.deep.equal(['cannot', `lost ${1101 - 1024}`])
    expect(readFileSync(blocked, 'utf8')).to.equal(line.repeat(1024))
  })

  it('takes a disk that does not answer for one that cannot be written', async () => {
    file.write('{"a":1}\n')
    clock.advance(10_000)
    expect(said).to.deep.equal([`${path} does not answer`])
    await file.look()
    expect(said.at(-1)).to.equal('lost 0')
  })
})
