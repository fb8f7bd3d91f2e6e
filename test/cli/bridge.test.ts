import { expect } from 'chai'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePorts } from '../support/ports.ts'
import { dst, Workshop } from '../support/process.ts'
import { mustRun, needPrograms } from '../support/programs.ts'

describe('dst bridge and dst list', function () {
  let workshop: Workshop
  beforeEach(() => (workshop = new Workshop()))
  afterEach(() => workshop.close())

  const file = { type: 'file', path: 'a.img', size: '4M', create: true }

  async function serve() {
    const [native = 0, nbd = 0] = await freePorts(2)
    const target = await workshop.serve('t', {
      listeners: [
        { protocol: 'dst', address: `127.0.0.1:${native}` },
        { protocol: 'nbd', address: `127.0.0.1:${nbd}` },
      ],
      devices: { a: file },
      exports: {
        home: { device: 'a', description: 'sweet' },
        look: { device: 'a', readOnly: true },
      },
    })
    return { target, native: `dst://127.0.0.1:${native}`, nbd: `nbd://127.0.0.1:${nbd}` }
  }

  it('lists what a target has, by both protocols', async () => {
    const { native, nbd } = await serve()
    const far = await dst(['list', native], workshop.folder)
    expect(far.stdout).to.equal(
      `${native}/home  4.0 MiB  sweet\n${native}/look  4.0 MiB  read only\n`,
    )
    const plain = await dst(['list', nbd], workshop.folder)
    expect(plain.stdout).to.equal(`${nbd}/home  sweet\n${nbd}/look\n`)
    const json = await dst(['list', native, '--json'], workshop.folder)
    const [first] = JSON.parse(json.stdout) as Record<string, unknown>[]
    expect(first).to.include({ name: 'home', size: 4 << 20, readOnly: false, usable: true })
  })

  it('serves a remote export whose target is killed and started again', async function () {
    needPrograms(this, 'qemu-io')
    const { target, native } = await serve()
    const socket = join(workshop.folder, 'b.sock')
    const bridge = await workshop.run(['bridge', `${native}/home`, '--listen', `unix:${socket}`])
    const uri = `nbd+unix:///home?socket=${socket}`
    const io = (...commands: string[]) =>
      mustRun('qemu-io', ['-f', 'raw', ...commands.flatMap((each) => ['-c', each]), uri])
    await io('write -P 7 0 1M', 'flush')
    await target.stop('SIGKILL')
    const reading = io('read -P 7 0 1M', 'write -P 8 1M 1M', 'flush')
    await target.start()
    await reading
    await io('read -P 8 1M 1M')
    expect(await bridge.stop(), bridge.stderr).to.equal(0)
    expect(await target.stop(), target.stderr).to.equal(0)
  })

  // No machine asks a name server for such a name, so the answer is the same where there is none.
  for (const uri of ['dst://nobody..invalid/home', 'nbd://nobody..invalid:1/home'])
    it(`ends with a sentence where the host is not known: ${uri}`, async () => {
      const words = ['bridge', uri, '--listen', 'unix:b.sock']
      const { code, stdout, stderr } = await dst(words, workshop.folder)
      expect([code, stdout]).to.deep.equal([1, ''])
      expect(stderr).to.match(/^dst: error: connecting to nobody\.\.invalid:\d+: .*ENOTFOUND/m)
    })

  it('ends with a sentence where the server has no such export', async () => {
    const { native, nbd } = await serve()
    for (const far of [native, nbd]) {
      const words = ['bridge', `${far}/hoem`, '--listen', 'unix:b.sock']
      const { code, stdout, stderr } = await dst(words, workshop.folder)
      expect([code, stdout]).to.deep.equal([1, ''])
      expect(stderr).to.match(/^dst: error: .*no (such )?export/m)
    }
  })

  it('says that its remote is not there yet, and serves it when it is', async () => {
    const { native, target } = await serve()
    await target.stop()
    const socket = join(workshop.folder, 'b.sock')
    const bridge = await workshop.run(['bridge', `${native}/home`, '--listen', `unix:${socket}`])
    expect(bridge.stderr).to.match(/clients are refused until then: connecting to .*ECONNREFUSED/)
    await target.start()
    while (!bridge.stderr.includes('remote is online')) await sleep(20)
    expect(await bridge.stop(), bridge.stderr).to.equal(0)
  })

  it('serves an NBD export too, under another name and for reading', async function () {
    needPrograms(this, 'nbdinfo')
    const { nbd } = await serve()
    const socket = join(workshop.folder, 'b.sock')
    const words = [
      '--listen',
      `unix:${socket}`,
      '--listen',
      '127.0.0.1:0',
      '--name',
      'x',
      '--read-only',
    ]
    const bridge = await workshop.run(['bridge', `${nbd}/home`, ...words])
    const info = await mustRun('nbdinfo', ['--json', `nbd+unix:///x?socket=${socket}`])
    expect(JSON.parse(info)).to.have.nested.property('exports[0].is_read_only', true)
    expect(bridge.stdout).to.match(/^x {2}nbd:\/\/127\.0\.0\.1:\d+\/x$/m)
    expect(await bridge.stop(), bridge.stderr).to.equal(0)
  })
})
