import { closeSync, mkdtempSync, openSync, rmSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { MiB } from '../../src/base/size.ts'
import { openExport } from '../../src/cli/open.ts'
import { freePorts } from '../../test/support/ports.ts'
import { usageOf, type Usage } from './proc.ts'
import { Process } from './process.ts'

export type Transport = 'unix' | 'tcp'
/** Where a server's bytes are: its own memory, or a file in the page cache. */
export type Media = 'memory' | 'file'

/** A way to serve a volume: what a user could pick. */
export interface Server {
  /** `dst`, `nbdkit`, … : with media and transport the key of its rows. */
  readonly name: string
  /** The program it needs, or null when it comes with us. */
  readonly program: string | null
  /** What it speaks; NBD if it does not say. */
  readonly protocol?: 'nbd' | 'dst'
  /** The name to ask it for; '' if it does not say. */
  readonly exportName?: string
  /** What it stands on: started before it, with memory of their own, and not measured. */
  readonly backings?: readonly Server[]
  command(place: Place): readonly string[]
}

/** What a server is to serve, and where. */
export interface Place {
  readonly media: Media
  /** Bytes of the volume. */
  readonly size: number
  /** The volume's file; for the memory of servers that know only files it lies in a tmpfs. */
  readonly file: string
  /** The socket's path, or null for TCP. */
  readonly socket: string | null
  readonly port: number
  /** For files of the server's own, on the disk under test and in memory. */
  readonly folder: string
  readonly memory: string
  /** Where the backings are, in order. */
  readonly backings: readonly string[]
}

export const nbdkit: Server = {
  name: 'nbdkit',
  program: 'nbdkit',
  command: ({ media, size, file, socket, port }) => [
    'nbdkit',
    '--foreground',
    ...(socket === null ? ['-i', '127.0.0.1', '-p', String(port)] : ['-U', socket]),
    ...(media === 'file' ? ['file', file] : ['memory', `size=${size}`]),
  ],
}

export const qemuNbd: Server = {
  name: 'qemu-nbd',
  program: 'qemu-nbd',
  command: ({ file, socket, port }) => [
    'qemu-nbd',
    '--persistent',
    '--shared=64',
    '--format=raw',
    '--cache=writeback',
    ...(socket === null ? ['-b', '127.0.0.1', '-p', String(port)] : ['-k', socket]),
    file,
  ],
}

/** QEMU's mirror: a quorum over NBD servers. It writes to all of them and reads from the first. */
export function quorum(backings: readonly Server[]): Server {
  return {
    name: 'qemu quorum',
    program: 'qemu-storage-daemon',
    exportName: 'bench',
    backings,
    command: ({ size, socket, port, backings: uris }) => {
      const legs = uris.flatMap((uri, at) => [
        '--blockdev',
        `driver=nbd,node-name=leg${at},${qemuAddress(uri)}`,
      ])
      const children = uris.map((_, at) => `children.${at}=leg${at}`).join(',')
      return [
        'qemu-storage-daemon',
        ...legs,
        '--blockdev',
        `driver=quorum,node-name=quorum,vote-threshold=1,read-pattern=fifo,${children}`,
        '--blockdev',
        `driver=raw,node-name=volume,file=quorum,size=${size}`,
        '--nbd-server',
        socket === null
          ? `addr.type=inet,addr.host=127.0.0.1,addr.port=${port}`
          : `addr.type=unix,addr.path=${socket}`,
        '--export',
        'type=nbd,id=bench,node-name=volume,name=bench,writable=on',
      ]
    },
  }
}

function qemuAddress(uri: string): string {
  return `server.type=unix,server.path=${new URL(uri).searchParams.get('socket') ?? ''}`
}

/** The limit of Node's sockets; what results of different days are held against. */
export const pump: Server = {
  name: 'pump',
  program: null,
  command: ({ size, socket, port }) => [
    process.execPath,
    join(import.meta.dirname, 'pump.js'),
    socket ?? String(port),
    String(size),
  ],
}

/** A server that was started for some rounds. */
export class Running {
  readonly server: Server
  readonly place: Place
  private readonly process: Process
  private readonly backings: readonly Running[]

  private constructor(server: Server, place: Place, backings: readonly Running[]) {
    this.server = server
    this.place = place
    this.backings = backings
    this.process = new Process(server.command(place))
  }

  /** Starts a server and what it stands on, which is reached over unix sockets. */
  static async start(
    server: Server,
    { media, transport, size }: Volume,
    folders: Folders,
  ): Promise<Running> {
    const backings: Running[] = []
    try {
      for (const backing of server.backings ?? []) {
        const volume: Volume = { media, transport: 'unix', size: size + backingExtraBytes }
        backings.push(await Running.start(backing, volume, folders))
      }
      const folder = mkdtempSync(join(folders.disk, 'server-'))
      const memory = mkdtempSync(join(folders.memory, 'server-'))
      const file = join(media === 'file' ? folder : memory, 'volume.img')
      const [port = 0] = await freePorts(1)
      closeSync(openSync(file, 'a'))
      truncateSync(file, size)
      const place: Place = {
        media,
        size,
        file,
        socket: transport === 'unix' ? join(folder, 'socket') : null,
        port,
        folder,
        memory,
        backings: backings.map(({ uri }) => uri),
      }
      const running = new Running(server, place, backings)
      try {
        await running.process.listening(async () => (await openExport(running.uri)).close())
      } catch (error) {
        await running.stop()
        throw error
      }
      return running
    } catch (error) {
      await Promise.all(backings.map((backing) => backing.stop()))
      throw error
    }
  }

  get uri(): string {
    const { exportName = '', protocol = 'nbd' } = this.server
    const { socket, port } = this.place
    return socket === null
      ? `${protocol}://127.0.0.1:${port}/${exportName}`
      : `${protocol}+unix:///${exportName}?socket=${socket}`
  }

  get pid(): number {
    return this.process.pid
  }

  /** Why it, or what it stands on, can no longer be measured; null while all run. */
  get failure(): string | null {
    const { failure } = this.process
    if (failure !== null) return failure
    const below = this.backings.find((backing) => backing.failure !== null)
    return below === undefined ? null : `${below.server.name} below it: ${below.failure}`
  }

  usage(): Usage {
    return usageOf(this.process.pid)
  }

  /**
   * Nanoseconds of processor time from one moment to the next: exact where no thread ends in
   * between, as in ours and the pump; in ticks for servers with a thread for each connection.
   */
  cpuBetween(before: Usage, after: Usage): number {
    return this.server.program === null
      ? after.threadNanoseconds - before.threadNanoseconds
      : after.cpuNanoseconds - before.cpuNanoseconds
  }

  /** Ends it and removes its files. */
  async stop(): Promise<void> {
    await this.process.stop()
    await Promise.all(this.backings.map((backing) => backing.stop()))
    rmSync(this.place.folder, { recursive: true, force: true })
    rmSync(this.place.memory, { recursive: true, force: true })
  }
}

/** What is served, and how it is reached. */
export interface Volume {
  readonly media: Media
  readonly transport: Transport
  /** Bytes. */
  readonly size: number
}

/** Larger than what stands on it by this much: a mirror keeps metadata at the end of its legs. */
export const backingExtraBytes = 32 * MiB

/** Temporary folders for a run: on the disk under test, and in memory. */
export interface Folders {
  readonly disk: string
  readonly memory: string
}
