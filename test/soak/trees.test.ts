import { expect } from 'chai'
import { randomBytes } from 'node:crypto'
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePorts } from '../support/ports.ts'
import { Workshop } from '../support/process.ts'
import { mustRun, needPrograms } from '../support/programs.ts'

/** The trees that distributed storage was once announced with, as real processes. */
describe('trees over many targets', function () {
  let workshop: Workshop
  before(function () {
    needPrograms(this, 'nbdcopy', 'nbdinfo')
  })
  beforeEach(() => (workshop = new Workshop()))
  afterEach(async function () {
    if (this.currentTest?.isFailed() === true) console.log(workshop.logs())
    await workshop.close()
  })

  const numbers = (count: number): number[] => Array.from({ length: count }, (_, at) => at)
  const listener = (protocol: string, port: number) => ({ protocol, address: `127.0.0.1:${port}` })

  /** A target with files `NAME-0.img` … exported as `0` …. */
  async function serveFiles(name: string, port: number, count: number): Promise<void> {
    const file = (at: number) => ({
      type: 'file',
      path: `${name}-${at}.img`,
      size: '8M',
      create: true,
    })
    await workshop.serve(name, {
      listeners: [listener('dst', port)],
      devices: Object.fromEntries(numbers(count).map((at) => [`d${at}`, file(at)])),
      exports: Object.fromEntries(numbers(count).map((at) => [`${at}`, { device: `d${at}` }])),
    })
  }

  /** Fills the export with random bytes by one client and reads all of it by another. */
  async function expectRoundTrip(uri: string): Promise<Buffer> {
    const size = Number(await mustRun('nbdinfo', ['--size', uri]))
    const bytes = randomBytes(size)
    const [input, output] = ['in', 'out'].map((name) => join(workshop.folder, name))
    writeFileSync(input!, bytes)
    await mustRun('nbdcopy', ['--flush', input!, uri])
    await mustRun('nbdcopy', [uri, output!])
    expect(readFileSync(output!).equals(bytes), 'what was read is what was written').to.equal(true)
    return bytes
  }

  /** Bytes of a leg's file: its data begins at offset 0. */
  function legBytes(file: string, length: number): Buffer {
    const bytes = Buffer.alloc(length)
    const descriptor = openSync(join(workshop.folder, file), 'r')
    readSync(descriptor, bytes, 0, length, 0)
    closeSync(descriptor)
    return bytes
  }

  it('joins ten mirrors of two remotes, and those with a remote by a second target', async () => {
    const [left = 0, right = 0, middle = 0, top = 0, nbd = 0] = await freePorts(5)
    await serveFiles('left', left, 10)
    await serveFiles('right', right, 11)
    const remote = (port: number, name: string) => ({
      type: 'remote',
      uri: `dst://127.0.0.1:${port}/${name}`,
    })
    const mirror = (at: number) => ({
      type: 'mirror',
      legs: { left: remote(left, `${at}`), right: remote(right, `${at}`) },
    })
    await workshop.serve('middle', {
      listeners: [listener('dst', middle)],
      state: { directory: 'middle-state' },
      devices: { array: { type: 'linear', parts: numbers(10).map(mirror) } },
      exports: { array: { device: 'array' } },
    })
    await workshop.serve('top', {
      listeners: [listener('nbd', nbd), listener('dst', top)],
      devices: {
        all: { type: 'linear', parts: [remote(middle, 'array'), remote(right, '10')] },
      },
      exports: { all: { device: 'all' } },
    })
    const bytes = await expectRoundTrip(`nbd://127.0.0.1:${nbd}/all`)
    const legLength = (bytes.length - 8 * 1024 * 1024) / 10
    for (const at of numbers(10))
      for (const side of ['left', 'right']) {
        const expected = bytes.subarray(at * legLength, (at + 1) * legLength)
        const found = legBytes(`${side}-${at}.img`, legLength)
        expect(found.equals(expected), `mirror ${at}, ${side}`).to.equal(true)
      }
  })

  it('mirrors a local file and 200 remotes', async () => {
    const [store = 0, nbd = 0] = await freePorts(2)
    await serveFiles('store', store, 200)
    const remotes = Object.fromEntries(
      numbers(200).map((at) => [
        `r${at}`,
        { type: 'remote', uri: `dst://127.0.0.1:${store}/${at}` },
      ]),
    )
    const local = { type: 'file', path: 'local.img', size: '8M', create: true }
    await workshop.serve('head', {
      listeners: [listener('nbd', nbd)],
      devices: { wide: { type: 'mirror', legs: { local, ...remotes } } },
      exports: { wide: { device: 'wide' } },
    })
    const bytes = await expectRoundTrip(`nbd://127.0.0.1:${nbd}/wide`)
    for (const file of ['local.img', ...numbers(200).map((at) => `store-${at}.img`)])
      expect(legBytes(file, bytes.length).equals(bytes), file).to.equal(true)
  })
})
