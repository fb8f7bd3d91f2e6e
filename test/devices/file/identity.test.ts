import { expect } from 'chai'
import { execFile } from 'node:child_process'
import fs from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { countsOfWrites } from '../../../src/devices/file/file.ts'
import { bootIdOf, identify, sizeNow } from '../../../src/devices/file/medium.ts'
import { removeFolder, temporaryFolder } from '../../support/files.ts'

describe('a disk', () => {
  let sysfs: string

  beforeEach(async () => {
    sysfs = await temporaryFolder()
  })

  afterEach(() => removeFolder(sysfs))

  const tell = (name: string, text: string): Promise<void> =>
    fs.writeFile(path.join(sysfs, name), `${text}\n`)
  const disk = (bootId: string): Promise<string> => identify('disk:64769', sysfs, bootId)

  it('without a name is another after a restart, or once it was unplugged', async () => {
    await tell('diskseq', '9')
    const first = await disk('one boot')
    expect(await disk('one boot')).to.equal(first)
    expect(await disk('another'), 'its number may be another disk’s').to.not.equal(first)
    await tell('diskseq', '10')
    expect(await disk('one boot'), 'what came in its place').to.not.equal(first)
  })

  for (const name of ['wwid', 'dm/uuid', 'md/uuid', 'serial'])
    it(`with a ${name} is known again`, async () => {
      await tell('diskseq', '9')
      await fs.mkdir(path.join(sysfs, path.dirname(name)), { recursive: true })
      await tell(name, 'S4EVNF0M')
      const first = await disk('one boot')
      await tell('diskseq', '10')
      expect(await disk('another')).to.equal(first)
    })

  it('is not known by a name of zeroes', async () => {
    await tell('serial', '00000000-0000-0000-0000-000000000000')
    expect(await disk('another')).to.not.equal(await disk('one boot'))
  })

  it('without a name is another for each process where disks are not counted', async () => {
    const first = await disk('one boot')
    expect(await disk('one boot'), 'in this one').to.equal(first)
    const inAnother = await otherProcess(`identify('disk:64769', '${sysfs}', 'one boot')`)
    expect(inAnother).to.not.equal(first)
  })

  it('that is a file is known always', async () => {
    const file = await identify('7:1764000000', sysfs, 'one boot')
    expect(await identify('7:1764000000', sysfs, 'another')).to.equal(file)
  })
})

/** What the expression comes to in a process of its own, with the functions of the module. */
async function otherProcess(expression: string): Promise<string> {
  const place = new URL('../../../src/devices/file/medium.js', import.meta.url).href
  const program = `import { bootIdOf, identify } from '${place}'; console.log(await ${expression})`
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--input-type=module',
    '-e',
    program,
  ])
  return stdout.trim()
}

describe('what the system does not tell', () => {
  it('of the size of a disk is no size: not that of an empty one', async () => {
    const disk = { handle: null as never, regular: false, sysfs: '/sys/dev/block/nowhere' }
    const error: unknown = await sizeNow(disk, '/dev/sdx').catch((cause: unknown) => cause)
    expect((error as Error).message).to.include('/dev/sdx: the kernel does not say how large')
  })

  it('of its boot counts as another boot for each process', async () => {
    expect(bootIdOf('one')).to.equal(bootIdOf('one'))
    expect(bootIdOf('')).to.equal(bootIdOf(''))
    expect(await otherProcess(`bootIdOf('one')`)).to.equal(bootIdOf('one'))
    expect(await otherProcess(`bootIdOf('')`)).to.not.equal(bootIdOf(''))
  })

  it('of the writes to a disk counts as changed', () => {
    const counts = '1 2 3 4 5 6 7 8 9 10 11'
    expect(countsOfWrites(counts)).to.equal(countsOfWrites(counts))
    expect(countsOfWrites('')).to.not.equal(countsOfWrites(''))
  })
})
