import { expect } from 'chai'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { Lives } from '../../src/device/lives.ts'
import { runtimeFolder, spareOf } from '../../src/daemon/spare.ts'
import { FileStore } from '../../src/daemon/state.ts'
import { removeFolder, temporaryFolder } from '../support/files.ts'

const [identity, from, to] = ['1', '2', '3'].map((digit) => digit.repeat(32)) as [
  string,
  string,
  string,
]

describe('what a target remembers of this boot', () => {
  let folder: string
  beforeEach(async () => (folder = await temporaryFolder()))
  afterEach(() => removeFolder(folder))

  it('is kept where the state directory cannot be written, for that directory alone', async () => {
    const runtime = join(folder, 'run')
    // Nothing can be made below what is no folder.
    const directories = ['one', 'other'].map((name) => join('/dev/null', name))
    const lives = directories.map((at) => new Lives(new FileStore(at), spareOf(at, runtime)))
    const [one, other] = lives as [Lives, Lives]
    await one.keep(identity, { from, to }, systemClock)
    const [at] = directories as [string, string]
    const next = new Lives(new FileStore(join(folder, 'mended')), spareOf(at, runtime))
    await next.load(systemClock)
    expect(next.of(identity, from)).to.equal(to)
    expect(other.of(identity, from)).to.equal(null)
    await other.load(systemClock)
    expect(other.of(identity, from)).to.equal(null)
  })

  it('is in a folder of the service, of the user or of root, and nowhere else', () => {
    const own = { XDG_RUNTIME_DIR: '/run/user/7' }
    expect(runtimeFolder({ ...own, RUNTIME_DIRECTORY: '/run/a:/run/b' }, 7)).to.equal('/run/a')
    expect(runtimeFolder(own, 7)).to.equal('/run/user/7')
    expect(runtimeFolder({}, 0)).to.equal('/run')
    expect(runtimeFolder({}, 7)).to.equal(null)
    expect(spareOf('data/state', null)).to.equal(null)
  })

  it('is in no folder of another user, whose variables a program was started with', () => {
    const [user, other] = [process.getuid!(), process.getuid!() + 1]
    const theirs = { XDG_RUNTIME_DIR: folder }
    expect(runtimeFolder(theirs, user)).to.equal(folder)
    expect(runtimeFolder(theirs, other)).to.equal(null)
    expect(runtimeFolder({ ...theirs, RUNTIME_DIRECTORY: '/run/a' }, other)).to.equal('/run/a')
  })
})
