import { expect } from 'chai'
import { randomBytes } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { MiB } from '../../src/base/size.ts'
import { Rig } from '../nbd/rig.ts'
import { mustRun, needPrograms } from '../support/programs.ts'

/**
 * The NBD client of a backup product, written by others for Node: it knows only the oldest way to
 * choose an export, and simple replies. It reads, and has no call that writes: the only command it
 * can send besides is the one to disconnect, and what sends commands is private. So what it reads
 * was written by others, each with an NBD client of its own: libnbd's nbdcopy, and qemu.
 */

/** What a program of this package offers, as far as it is used here. */
interface VatesClient {
  readonly exportSize: bigint
  connect(): Promise<void>
  disconnect(): Promise<void>
  readBlock(index: number, size: number): Promise<Buffer>
}
interface VatesModule {
  readonly default: {
    readonly prototype: object
    new (settings: { address: string; port: number; exportname: string }): VatesClient
  }
}

const cache = resolve('node_modules/.cache')
const client = '@vates/nbd-client@3.6.0'
/** What its TCP client loads. The package asks for more, and for versions that do not exist. */
const libraries = ['promise-toolbox@0.21.0', '@vates/read-chunk@1.2.1', '@xen-orchestra/log@0.7.2']

/** Installs the client beside the project, once. Gives null where it cannot be had. */
async function fetchClient(): Promise<VatesModule | null> {
  const home = join(cache, 'dst-vates')
  if (!existsSync(home)) {
    mkdirSync(cache, { recursive: true })
    const folder = mkdtempSync(join(cache, 'new-'))
    try {
      writeFileSync(join(folder, 'package.json'), '{ "private": true }')
      const options = { cwd: folder, timeout: 120_000 }
      const quiet = ['--no-audit', '--no-fund', '--ignore-scripts', '--silent']
      await mustRun('npm', ['install', ...quiet, ...libraries], options)
      const archive = (await mustRun('npm', ['pack', '--silent', client], options)).trim()
      const target = join(folder, 'node_modules/@vates/nbd-client')
      mkdirSync(target, { recursive: true })
      await mustRun('tar', ['xzf', archive, '-C', target, '--strip-components=1'], options)
      if (!existsSync(home)) renameSync(folder, home)
    } catch (error) {
      console.log(`      skipped: ${client} cannot be installed: ${String(error)}`)
      return null
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }
  const main = join(home, 'node_modules/@vates/nbd-client/index.mjs')
  return (await import(pathToFileURL(main).href)) as VatesModule
}

describe('@vates/nbd-client', function () {
  let rig: Rig
  let module: VatesModule
  before(async function () {
    needPrograms(this, 'npm', 'tar', 'nbdcopy', 'qemu-img', 'qemu-io')
    const found = await fetchClient()
    if (found === null) this.skip()
    module = found
  })
  beforeEach(async () => {
    rig = new Rig()
    await rig.listen()
    await rig.addMemory('volume', 4 * MiB + 4096)
  })
  afterEach(() => rig.close())

  it('has nothing that writes: if it had, this would use it', () => {
    const calls: string[] = []
    for (let at: object = module.default.prototype; at !== Object.prototype;) {
      calls.push(...Object.getOwnPropertyNames(at))
      at = Object.getPrototypeOf(at) as object
    }
    expect(calls).to.include('readBlock')
    expect(calls.filter((name) => /write|zero|trim|flush|command/i.test(name))).to.deep.equal([])
  })

  const writers = {
    nbdcopy: (file: string, uri: string) => mustRun('nbdcopy', [file, uri]),
    qemu: async (file: string, uri: string) => {
      await mustRun('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', file, uri])
      const commands = ['write -f -P 7 65536 1000', 'write -z 1M 65536', 'flush']
      const words = commands.flatMap((each) => ['-c', each])
      await mustRun('qemu-io', ['-f', 'raw', ...words, uri])
      const bytes = readFileSync(file)
      writeFileSync(file, bytes.fill(7, 65_536, 66_536).fill(0, MiB, MiB + 65_536))
    },
  }
  for (const [name, write] of Object.entries(writers))
    it(`reads, many blocks at once, what ${name} wrote`, () => readsWhatIsWrittenBy(write))

  async function readsWhatIsWrittenBy(
    write: (file: string, uri: string) => Promise<unknown>,
  ): Promise<void> {
    const file = join(rig.folder, 'bytes')
    writeFileSync(file, randomBytes(4 * MiB + 4096))
    await write(file, rig.uri('volume'))
    const bytes = readFileSync(file)
    const { tcp } = rig
    const port = tcp.kind === 'tcp' ? tcp.port : 0
    const { default: Client } = module
    const reader = new Client({ address: '127.0.0.1', port, exportname: 'volume' })
    await reader.connect()
    expect(reader.exportSize).to.equal(BigInt(bytes.length))
    const blockSize = 64 * 1024
    const count = Math.ceil(bytes.length / blockSize)
    const blocks = await Promise.all(
      Array.from({ length: count }, (_, index) => reader.readBlock(index, blockSize)),
    )
    expect(Buffer.concat(blocks).equals(bytes)).to.equal(true)
    await reader.disconnect()
  }
})
