import { expect } from 'chai'
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  mkdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { MiB } from '../../src/base/size.ts'
import { freePorts } from '../support/ports.ts'
import { dst, Workshop, type DstProcess } from '../support/process.ts'
import { mustRun, needPrograms, runProgram } from '../support/programs.ts'
import { exportSize, findVolume, legsReach, statusOf } from '../support/volume.ts'
import { hostAddress, machinePrograms, runInMachine } from '../vm/machine.ts'
import { SeededRandom } from '../support/seeded.ts'

const management = 'unix:head.sock'

/**
 * Legs are taken off a running volume as images, checked with the file system's own tools, and put
 * back; images that were there before become legs, and legs become images for good.
 */
describe('legs as images', function () {
  let workshop: Workshop
  before(function () {
    needPrograms(this, 'nbdcopy', 'nbdinfo', 'qemu-io', 'mkfs.ext4', 'fsck.ext4', 'debugfs', 'cmp')
  })
  beforeEach(() => (workshop = new Workshop()))
  afterEach(async function () {
    if (this.currentTest?.isFailed() === true) console.log(workshop.logs())
    await workshop.close()
  })

  const path = (name: string): string => join(workshop.folder, name)
  const file = (name: string, size: string) => ({
    type: 'file',
    path: `${name}.img`,
    size,
    create: true,
    // An image that was there before has no room for a leg's metadata.
    grow: true,
  })

  interface Head {
    readonly process: DstProcess
    readonly port: number
    readonly uri: string
  }

  /** A volume of two legs, `left` and `right`; the right one is also exported, for reading. */
  async function serveVolume(size: string, more: object = {}): Promise<Head> {
    const [port = 0] = await freePorts(1)
    const process = await workshop.serve('head', {
      listeners: [{ protocol: 'nbd', address: `127.0.0.1:${port}` }],
      management: { address: management },
      devices: {
        left: file('left', size),
        right: file('right', size),
        home: { type: 'mirror', legs: { left: 'left', right: 'right' }, ...more },
      },
      exports: { home: { device: 'home' }, right: { device: 'right', readOnly: true } },
    })
    await legsReach(workshop.folder, management, ['in-sync'], 120_000)
    return { process, port, uri: `nbd://127.0.0.1:${port}/home` }
  }

  /** Runs a command on the target; throws what it printed if it fails. */
  async function command(...words: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await dst(
      [...words, '--management', management],
      workshop.folder,
    )
    if (code !== 0) throw new Error(`dst ${words.join(' ')}: exit ${code ?? 'killed'}: ${stderr}`)
    return stdout
  }

  /** An ext4 image with one file, `letter`. Gives its path and what the letter says. */
  async function makeImage(size: number): Promise<{ image: string; letter: Buffer }> {
    const letter = new SeededRandom(size).bytes(3 * MiB)
    mkdirSync(path('content'))
    writeFileSync(path('content/letter'), letter)
    const image = path('image')
    const kibibytes = Math.floor(size / 4096) * 4
    await mustRun('mkfs.ext4', ['-q', '-F', '-d', path('content'), image, `${kibibytes}k`])
    truncateSync(image, size)
    return { image, letter }
  }

  /** The file system in an image is whole, and the letter in it says the same. */
  async function expectWhole(image: string, letter: Buffer): Promise<void> {
    await mustRun('fsck.ext4', ['-n', '-f', image])
    await mustRun('debugfs', ['-R', `dump letter ${path('found')}`, image])
    expect(readFileSync(path('found')).equals(letter), 'the letter').to.equal(true)
  }

  async function expectSameData(length: number): Promise<void> {
    const { code, stdout } = await runProgram('cmp', [
      ...['-n', `${length}`],
      path('left.img'),
      path('right.img'),
    ])
    expect(code, stdout).to.equal(0)
  }

  const digest = (name: string): string =>
    createHash('sha256')
      .update(readFileSync(path(name)))
      .digest('hex')

  it('are whole when detached, and take only the difference when they return', async () => {
    const { process, uri } = await serveVolume('64M')
    const size = await exportSize(uri)
    const { image, letter } = await makeImage(size)
    await mustRun('nbdcopy', ['--flush', image, uri])

    await command('leg', 'detach', 'home', 'right', '--as', 'monday')
    expect(JSON.stringify(findVolume(await statusOf(workshop.folder, management)))).to.include(
      'monday',
    )
    await expectWhole(path('right.img'), letter)
    const before = digest('right.img')
    await mustRun('qemu-io', ['-f', 'raw', '-c', 'write -P 7 40M 2M', '-c', 'flush', uri])
    expect(digest('right.img'), 'nobody writes to a detached image').to.equal(before)

    await command('leg', 'attach', 'home', 'right')
    await legsReach(workshop.folder, management, ['in-sync'], 120_000)
    const copied = await bytesCopied()
    expect(copied).to.be.at.least(2 * MiB)
    expect(copied).to.be.at.most(8 * MiB)
    expect(await process.stop(), process.stderr).to.equal(0)
    await expectSameData(size)
  })

  /** What the last resync copied, as the history says. */
  async function bytesCopied(): Promise<number> {
    interface Entry {
      readonly resync?: { readonly bytes: number; readonly kind: string }
    }
    const history = JSON.parse(await command('volume', 'history', 'home', '--json')) as Entry[]
    const last = history.filter(({ resync }) => resync?.kind === 'partial').at(-1)
    return last?.resync?.bytes ?? 0
  }

  it('mount in the kernel while they are detached', async function () {
    this.timeout(900_000)
    needPrograms(this, ...machinePrograms, 'nbd-client')
    const { port, uri } = await serveVolume('64M')
    const { image, letter } = await makeImage(await exportSize(uri))
    await mustRun('nbdcopy', ['--flush', image, uri])
    await command('leg', 'detach', 'home', 'right')
    const sum = createHash('sha256').update(letter).digest('hex')
    const verdict = await runInMachine({
      script: `
set -x
nbd-client ${hostAddress} 10809 /dev/nbd0 -N right -R
mount -t ext4 -o ro,noload /dev/nbd0 /mnt
test "$(sha256sum < /mnt/letter)" = "${sum}  -"
umount /mnt
nbd-client -d /dev/nbd0
`,
      forwards: new Map([[10809, port]]),
      timeout: 840_000,
    })
    expect(verdict.passed, verdict.console).to.equal(true)
  })

  it('can be an image that was there before, which is not copied', async () => {
    const size = 40 * MiB
    const { image, letter } = await makeImage(size)
    copyFileSync(image, path('left.img'))
    const { process, uri } = await serveVolume('48M', { source: 'left', size: '40M' })
    expect(await exportSize(uri)).to.equal(size)
    await mustRun('nbdcopy', [uri, path('copy')])
    await expectWhole(path('copy'), letter)
    expect(await process.stop(), process.stderr).to.equal(0)
    await mustRun('cmp', ['-n', `${size}`, image, path('left.img')])
    await mustRun('cmp', ['-n', `${size}`, image, path('right.img')])
  })

  it('leave for good as plain images without metadata', async () => {
    const { uri } = await serveVolume('64M')
    const size = await exportSize(uri)
    const { image, letter } = await makeImage(size)
    await mustRun('nbdcopy', ['--flush', image, uri])
    await command('leg', 'export', 'home', 'right')
    await expectWhole(path('right.img'), letter)
    const rest = readFileSync(path('right.img')).subarray(size)
    expect(
      rest.every((byte) => byte === 0),
      'nothing after the data',
    ).to.equal(true)
    expect(statSync(path('right.img')).size).to.be.at.least(size)
  })
})
