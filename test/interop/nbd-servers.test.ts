import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import type { Device } from '../../src/device/device.ts'
import { Operation } from '../../src/device/request.ts'
import type { Address } from '../../src/net/address.ts'
import { listExports } from '../../src/nbd/list.ts'
import type { NbdOptions } from '../../src/nbd/remote.ts'
import { nbdLeaf, nbdWorld } from '../nbd/leaf.ts'
import { conformance, type Subject } from '../support/conformance.ts'
import { flush, read, submit, write } from '../support/io.ts'
import { freePorts } from '../support/ports.ts'
import { findProgram, needPrograms } from '../support/programs.ts'

/** Somebody's NBD server as a process, on a unix socket in a folder of its own. */
class Server {
  readonly folder = mkdtempSync(join(tmpdir(), 'dst-nbds-'))
  readonly socket = join(this.folder, 'nbd.sock')
  private readonly program: string
  private readonly args: (server: Server) => string[]
  private child: ChildProcess | null = null

  constructor(program: string, args: (server: Server) => string[]) {
    this.program = program
    this.args = args
  }

  get address() {
    return { kind: 'unix', path: this.socket } as const
  }

  path(name: string): string {
    return join(this.folder, name)
  }

  async start(): Promise<this> {
    rmSync(this.socket, { force: true })
    const program = findProgram(this.program)!
    this.child = spawn(program, this.args(this), { stdio: 'ignore' })
    await talking(this.address)
    return this
  }

  async kill(): Promise<void> {
    const { child } = this
    this.child = null
    if (child === null) return
    // What became a daemon left its number behind.
    const daemon = this.path('pid')
    if (existsSync(daemon)) process.kill(Number(readFileSync(daemon, 'utf8')), 'SIGKILL')
    if (child.exitCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }

  async close(): Promise<void> {
    await this.kill()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** Milliseconds: some servers take a second of processor time to begin a conversation. */
const patience = 60_000

/**
 * Resolves once the server talks: programs do not tell when they are ready. Asks properly, because
 * some choke on who connects and says nothing.
 */
async function talking(address: Address): Promise<void> {
  const deadline = performance.now() + 60_000
  for (;;) {
    try {
      await listExports(nbdWorld(), address, patience)
      return
    } catch (error) {
      const patient = error instanceof StorageError && error.code === 'UNAVAILABLE'
      if (!patient || performance.now() > deadline) throw error
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}

function image(server: Server, size: number): string {
  const path = server.path('image')
  writeFileSync(path, '', { flag: 'a' })
  truncateSync(path, size)
  return path
}

interface Kind {
  readonly program: string
  readonly name: string
  readonly args: (server: Server, size: number, port: number) => string[]
}

const kinds: Record<string, Kind> = {
  'nbdkit memory': {
    program: 'nbdkit',
    name: '',
    args: ({ socket }, size) => ['-f', '-U', socket, 'memory', String(size)],
  },
  'nbdkit file with blocks of 4 KiB': {
    program: 'nbdkit',
    name: '',
    args: (server, size) => [
      ...['-f', '-U', server.socket, '--filter=blocksize-policy', 'file', image(server, size)],
      ...['blocksize-minimum=4096', 'blocksize-preferred=4096', 'blocksize-maximum=1M'],
      'blocksize-error-policy=error',
    ],
  },
  'nbdkit with simple replies and few abilities': {
    program: 'nbdkit',
    name: '',
    args: ({ socket }, size) => [
      ...['-f', '-U', socket, '--no-sr', '--filter=noextents', '--filter=nozero'],
      ...['memory', String(size), 'zeromode=none'],
    ],
  },
  'qemu-nbd': {
    program: 'qemu-nbd',
    name: 'disk',
    args: (server, size) => [
      ...['-k', server.socket, '-t', '-e', '8', '-x', 'disk', '-f', 'raw', '--discard=unmap'],
      image(server, size),
    ],
  },
  'nbd-server': {
    program: 'nbd-server',
    name: 'disk',
    args: (server, size, port) => {
      const config = [
        '[generic]',
        `unixsock = ${server.socket}`,
        'listenaddr = 127.0.0.1',
        `port = ${port}`,
        'allowlist = true',
        '[disk]',
        `exportname = ${image(server, size)}`,
        'flush = true',
        'fua = true',
        'trim = true',
      ]
      writeFileSync(server.path('config'), config.join('\n'))
      return ['-C', server.path('config'), '-p', server.path('pid')]
    },
  },
}

async function serve(kind: Kind, size: number): Promise<Server> {
  const [port] = await freePorts(1)
  return new Server(kind.program, (own) => kind.args(own, size, port!)).start()
}

async function leafOver(kind: Kind, size: number, options: Partial<NbdOptions>): Promise<Subject> {
  const server = await serve(kind, size)
  const device = nbdLeaf(server.address, kind.name, { connectTimeout: patience, ...options })
  await device.open()
  return { device, foreign: true, dispose: () => server.close() }
}

for (const [what, kind] of Object.entries(kinds))
  describe(`${what} as the server`, () => {
    before(function () {
      needPrograms(this, kind.program)
    })
    conformance(`an nbd leaf over ${what}`, (size) => leafOver(kind, size, {}))
  })

describe('qemu-nbd and nbdkit with several connections', () => {
  before(function () {
    needPrograms(this, 'nbdkit', 'qemu-nbd')
  })
  for (const what of ['nbdkit memory', 'qemu-nbd'])
    conformance(`four connections to ${what}`, (size) =>
      leafOver(kinds[what]!, size, { connections: 4 }),
    )
})

describe('an nbd leaf over nbdkit that dies', () => {
  let server: Server
  let leaf: Device
  before(async function () {
    needPrograms(this, 'nbdkit')
    const args = (own: Server): string[] => ['-f', '-U', own.socket, 'file', image(own, 4 * MiB)]
    server = await new Server('nbdkit', args).start()
    leaf = nbdLeaf(server.address, '', { connectTimeout: 30_000 })
    await leaf.open()
  })
  after(async () => {
    await leaf.close()
    await server.close()
  })

  it('holds requests until it is started again, as another incarnation', async () => {
    const data = Buffer.alloc(64 * KiB, 5)
    await write(leaf, 0, data)
    await flush(leaf)
    const { bootId } = leaf.facts!
    await server.kill()
    const reading = read(leaf, 0, data.length)
    // It may have been on its way when the server died; then it is the client's to write again.
    const writing = write(leaf, MiB, data).catch(() => write(leaf, MiB, data))
    await server.start()
    expect((await reading).equals(data)).to.equal(true)
    await writing
    expect((await read(leaf, MiB, data.length)).equals(data)).to.equal(true)
    expect(leaf.facts!.bootId).to.not.equal(bootId)
  })
})

describe('errors of a real server', () => {
  it('reach the client as what they are', async function () {
    needPrograms(this, 'nbdkit')
    const args = ({ socket }: Server): string[] => [
      ...['-f', '-U', socket, '--filter=error', 'memory', '1M'],
      ...['error-pread=EIO', 'error-pwrite=ENOSPC', 'error-rate=100%'],
    ]
    const server = await new Server('nbdkit', args).start()
    const leaf = nbdLeaf(server.address, '')
    await leaf.open()
    expect((await submit(leaf, Operation.read, 0, 512)).error?.code).to.equal('IO')
    const written = await submit(leaf, Operation.write, 0, 512, 0, [Buffer.alloc(512)])
    expect(written.error?.code).to.equal('NO_SPACE')
    expect(leaf.state.word).to.equal('online')
    await leaf.close()
    await server.close()
  })
})

describe('listing the exports of a server', () => {
  for (const what of ['qemu-nbd', 'nbd-server'])
    it(`works with ${what}`, async function () {
      const kind = kinds[what]!
      needPrograms(this, kind.program)
      const server = await serve(kind, MiB)
      const listing = listExports(nbdWorld(), server.address, patience)
      const exports = await listing.finally(() => server.close())
      expect(exports.map(({ name }) => name)).to.deep.equal(['disk'])
    })

  it('says what is wrong when nobody is there', async () => {
    const gone = { kind: 'unix', path: join(tmpdir(), 'dst-nobody.sock') } as const
    const error: unknown = await listExports(nbdWorld(), gone, 2000).catch((e: unknown) => e)
    expect(error).to.have.property('code', 'UNAVAILABLE')
  })
})
