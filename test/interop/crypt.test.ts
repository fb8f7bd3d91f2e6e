import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { flush, read, write } from '../support/io.ts'
import { cryptDevice, headerBytes, until } from '../devices/crypt/support.ts'
import { fileDevice } from '../support/files.ts'
import { mustRun, needPrograms, runProgram } from '../support/programs.ts'
import { dst } from '../support/process.ts'
import { SeededRandom } from '../support/seeded.ts'

/** Bytes of data in each image. */
const dataBytes = 8 * MiB
const luks1HeaderBytes = 2 * MiB

/** Other people's programs and ours on the same encrypted images. Needs no kernel's dm-crypt. */
describe('encrypted images and other programs', () => {
  let folder: string
  const data = new SeededRandom(1).bytes(dataBytes)

  before(function () {
    needPrograms(this, 'cryptsetup', 'qemu-img', 'nbdkit', 'nbdcopy')
  })
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dst-luks-'))
    writeFileSync(at('key'), 'the first key', { mode: 0o600 })
    writeFileSync(at('other'), 'the other key', { mode: 0o600 })
    writeFileSync(at('data'), data)
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  function at(name: string): string {
    return join(folder, name)
  }

  /** Makes a file of zeroes. */
  function blank(name: string, bytes: number): string {
    writeFileSync(at(name), '')
    truncateSync(at(name), bytes)
    return at(name)
  }

  async function crypt(...words: string[]): Promise<string> {
    const { code, stdout, stderr } = await dst(['crypt', ...words], folder)
    expect(code, stderr).to.equal(0)
    return stdout
  }

  const cryptsetup = (...words: string[]) => mustRun('cryptsetup', ['-q', ...words])

  async function opens(image: string, key: string): Promise<boolean> {
    const words = ['open', '--test-passphrase', '--key-file', at(key), at(image)]
    const { code, stderr } = await runProgram('cryptsetup', words)
    // 2 is for a wrong passphrase alone.
    expect(code, stderr).to.be.oneOf([0, 2])
    return code === 0
  }

  /** Opens an image by our device, runs the task, and closes it. */
  async function ours<T>(
    image: string,
    task: (device: ReturnType<typeof cryptDevice>) => Promise<T>,
    key = 'key',
  ): Promise<T> {
    const below = fileDevice('c/device', { path: at(image) })
    const device = cryptDevice(below, { kind: 'file', path: at(key) })
    await device.open()
    // Keys of other programs may take longer to derive than a start waits for.
    await until(device, ({ state }) => ['online', 'failed'].includes(state.word))
    expect(device.state.reason).to.equal('')
    try {
      return await task(device)
    } finally {
      await device.close()
    }
  }

  const content = (image: string) => ours(image, (device) => read(device, 0, dataBytes))

  const fill = (image: string) =>
    ours(image, async (device) => {
      await write(device, 0, data)
      await flush(device)
    })

  const luks = (image: string) =>
    `driver=luks,file.driver=file,file.filename=${at(image)},key-secret=key`
  const qemuKey = ['--object', 'secret,id=key,file=KEY']
  const qemu = (...words: string[]) =>
    mustRun(
      'qemu-img',
      words.map((word) => word.replace('KEY', at('key'))),
    )

  for (const sectorBytes of ['512', '4096'])
    it(`cryptsetup decrypts a luks2 of ours, with sectors of ${sectorBytes} bytes`, async () => {
      blank('image', headerBytes + dataBytes)
      const cheap = ['--memory', '8M', '--sector-size', sectorBytes]
      await crypt('format', 'image', '--key', 'file:key', ...cheap)
      const dump = await cryptsetup('luksDump', at('image'))
      expect(dump)
        .to.match(/PBKDF: +argon2id/)
        .and.to.include(`sector: ${sectorBytes} [bytes]`)
      expect(await opens('image', 'key')).to.equal(true)
      expect(await opens('image', 'other')).to.equal(false)
      await fill('image')
      const words = ['reencrypt', '--decrypt', '--force-offline-reencrypt', '--key-file', at('key')]
      await cryptsetup(...words, '--header', at('header'), at('image'))
      expect(readFileSync(at('image')).subarray(0, dataBytes).equals(data)).to.equal(true)
    })

  for (const [sectorBytes, kdf] of [
    ['512', ['--pbkdf', 'argon2i', '--pbkdf-memory', '8192', '--pbkdf-force-iterations', '4']],
    ['4096', ['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000', '--hash', 'sha512']],
  ] as const)
    it(`a luks2 that cryptsetup encrypted is read, of sectors of ${sectorBytes}`, async () => {
      // Half of what the file is reduced by is left for the header.
      const shift = 2 * headerBytes
      blank('image', shift + dataBytes)
      const image = Buffer.concat([data, Buffer.alloc(shift)])
      writeFileSync(at('image'), image)
      const how = ['--type', 'luks2', '--sector-size', sectorBytes, ...kdf]
      const words = ['reencrypt', '--encrypt', '--reduce-device-size', '32M', ...how]
      await cryptsetup(...words, '--force-offline-reencrypt', '--key-file', at('key'), at('image'))
      expect((await content('image')).equals(data)).to.equal(true)
    })

  it('qemu and nbdkit read a luks1 of ours, and we read what they wrote', async () => {
    blank('image', luks1HeaderBytes + dataBytes)
    const words = ['--format', 'luks1', '--iterations', '1000']
    await crypt('format', 'image', '--key', 'file:key', ...words)
    expect(await opens('image', 'key')).to.equal(true)
    await fill('image')
    await qemu('convert', ...qemuKey, '--image-opts', luks('image'), '-O', 'raw', at('by-qemu'))
    expect(readFileSync(at('by-qemu')).equals(data)).to.equal(true)
    const nbdkit = ['-U', '-', 'file', at('image'), '--filter=luks', `passphrase=+${at('key')}`]
    await mustRun('nbdkit', [...nbdkit, '--run', `nbdcopy "$uri" ${at('by-nbdkit')}`])
    expect(readFileSync(at('by-nbdkit')).equals(data)).to.equal(true)

    const other = new SeededRandom(2).bytes(dataBytes)
    writeFileSync(at('data'), other)
    await mustRun('nbdkit', [...nbdkit, '--run', `nbdcopy ${at('data')} "$uri"`])
    expect((await content('image')).equals(other), 'written by nbdkit').to.equal(true)
    writeFileSync(at('data'), data)
    const target = ['--target-image-opts', '-n', '-f', 'raw', at('data'), luks('image')]
    await qemu('convert', ...qemuKey, ...target)
    expect((await content('image')).equals(data), 'written by qemu').to.equal(true)
  })

  it('a luks1 of qemu is opened, and takes a key more that qemu knows', async () => {
    const options = 'key-secret=key,iter-time=500'
    const create = ['create', ...qemuKey, '-f', 'luks', '-o', options, at('image'), `${dataBytes}`]
    // On a busy machine it fails to measure how many iterations it can do in that time.
    for (let tries = 0; ; tries++) {
      const failure = await qemu(...create).then(
        () => '',
        (error: unknown) => String(error),
      )
      if (failure === '') break
      if (tries === 20 || !failure.includes('accurate CPU usage')) throw new Error(failure)
    }
    const target = ['--target-image-opts', '-n', '-f', 'raw', at('data'), luks('image')]
    await qemu('convert', ...qemuKey, ...target)
    expect((await content('image')).equals(data)).to.equal(true)
    const words = ['--key', 'file:key', '--new-key', 'file:other', '--iterations', '1000']
    await crypt('add-key', 'image', ...words)
    writeFileSync(at('key'), readFileSync(at('other')))
    await qemu('convert', ...qemuKey, '--image-opts', luks('image'), '-O', 'raw', at('by-qemu'))
    expect(readFileSync(at('by-qemu')).equals(data)).to.equal(true)
  })

  it('keys that either adds or removes are keys to the other', async () => {
    blank('image', headerBytes + dataBytes)
    const cheap = ['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000']
    const format = ['luksFormat', '--type', 'luks2', '--label', 'mine', ...cheap]
    await cryptsetup(...format, at('image'), at('key'))
    const token = '{"type":"someones","keyslots":["0"],"note":"kept"}'
    writeFileSync(at('token'), token)
    await cryptsetup('token', 'import', '--json-file', at('token'), at('image'))
    await fill('image')

    const pbkdf2 = ['--kdf', 'pbkdf2', '--iterations', '1000']
    const both = ['--key', 'file:key', '--new-key', 'file:other']
    await crypt('add-key', 'image', ...both, ...pbkdf2)
    expect(await opens('image', 'other')).to.equal(true)
    await crypt('remove-key', 'image', '--key', 'file:other', '--old-key', 'file:key')
    expect(await opens('image', 'key')).to.equal(false)
    const dump = await cryptsetup('luksDump', '--dump-json-metadata', at('image'))
    expect(dump).to.include('"note":"kept"')
    expect(await cryptsetup('luksDump', at('image'))).to.match(/Label:\s+mine/)

    const add = ['luksAddKey', ...cheap, '--key-file', at('other')]
    await cryptsetup(...add, at('image'), at('key'))
    expect((await content('image')).equals(data)).to.equal(true)
    await cryptsetup('luksRemoveKey', at('image'), at('key'))
    expect((await dst(['crypt', 'check', 'image', '--key', 'file:key'], folder)).code).to.equal(1)
  })

  it('cryptsetup puts back the copy of a header', async () => {
    blank('image', headerBytes + dataBytes)
    const pbkdf2 = ['--kdf', 'pbkdf2', '--iterations', '1000']
    await crypt('format', 'image', '--key', 'file:key', ...pbkdf2)
    await fill('image')
    await crypt('header-backup', 'image', 'copy')
    await crypt('format', 'image', '--key', 'file:other', '--force', ...pbkdf2)
    expect(await opens('image', 'key')).to.equal(false)
    await cryptsetup('luksHeaderRestore', '--header-backup-file', at('copy'), at('image'))
    expect((await content('image')).equals(data)).to.equal(true)
  })

  it('a copy that is damaged is told of, passed over and mended by the next change', async () => {
    blank('image', headerBytes + dataBytes)
    const pbkdf2 = ['--kdf', 'pbkdf2', '--iterations', '1000']
    await crypt('format', 'image', '--key', 'file:key', ...pbkdf2)
    const image = readFileSync(at('image'))
    image.fill(7, 5000, 5100)
    writeFileSync(at('image'), image)
    const checked = await dst(['crypt', 'check', 'image', '--key', 'file:key'], folder)
    expect(checked.code).to.equal(1)
    expect(checked.stdout).to.include('the key opens keyslot 0')
    await crypt('add-key', 'image', '--key', 'file:key', '--new-key', 'file:other', ...pbkdf2)
    await crypt('check', 'image', '--key', 'file:other')
    expect(await opens('image', 'other')).to.equal(true)
  })
})
