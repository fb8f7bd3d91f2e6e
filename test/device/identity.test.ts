import { expect } from 'chai'
import fs from 'node:fs/promises'
import path from 'node:path'
import { identify } from '../../src/device/files/medium.ts'
import { removeFolder, temporaryFolder } from '../support/files.ts'

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

  it('that is a file is known always', async () => {
    const file = await identify('7:1764000000', sysfs, 'one boot')
    expect(await identify('7:1764000000', sysfs, 'another')).to.equal(file)
  })
})
