import { closeSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import net from 'node:net'
import { findProgram, Process, usageOf, type Usage } from './process.ts'

export type Transport = 'unix' | 'tcp'
/** Where a server's bytes are: its own memory, or a file in the page cache. */
export type Media = 'memory' | 'file'

/** A way to serve a volume: what a user could pick. */
export interface Server {
  /** `dst`, `nbdkit`, … : with media and transport the key of its rows. */
  readonly name: string
  /** The program it needs, or null when it comes with us. */
  readonly program: string | null
  /** In the folder: where a program that goes to the background leaves its id. */
  readonly pidFile?: string
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

/** The limit of nbdkit: writes go nowhere, reads are zeroes. */
export const nbdkitNull: Server = {
  name: 'nbdkit null',
  program: 'nbdkit',
  command: ({ size, socket, port }) => [
    'nbdkit',
    '--foreground',
    ...(socket === null ? ['-i', '127.0.0.1', '-p', String(port)] : ['-U', socket]),
    'null',
    `size=${size}`,
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

export const nbdServer: Server = {
  name: 'nbd-server',
  program: 'nbd-server',
  pidFile: 'nbd-server.pid',
  command: ({ file, socket, port, folder }) => {
    const path = join(folder, 'nbd-server.conf')
    writeFileSync(
      path,
      [
        '[generic]',
        ...(socket === null
          ? ['listenaddr = 127.0.0.1', `port = ${port}`]
          : [`unixsock = ${socket}`, 'listenaddr = 127.0.0.1', `port = ${port}`]),
        'allowlist = true',
        // The same as the others: no flush unless the client asks for one.
        '[bench]',
        `exportname = ${file}`,
        'flush = true',
        '',
      ].join('\n'),
    )
    return [
      findProgram('nbd-server') ?? 'nbd-server',
      '-C',
      path,
      '-p',
      join(folder, 'nbd-server.pid'),
    ]
  },
}

/** This project's target. */
export const dst: Server = {
  name: 'dst',
  program: null,
  command: ({ size, socket, port }) => [
    process.execPath,
    join(import.meta.dirname, 'target.js'),
    socket ?? String(port),
    String(size),
  ],
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

  private constructor(server: Server, place: Place, process: Process) {
    this.server = server
    this.place = place
    this.process = process
  }

  static async start(
    server: Server,
    media: Media,
    transport: Transport,
    size: number,
    folders: Folders,
  ): Promise<Running> {
    const folder = mkdtempSync(join(folders.disk, 'server-'))
    const memory = mkdtempSync(join(folders.memory, 'server-'))
    const place: Place = {
      media,
      size,
      file: join(media === 'file' ? folder : memory, 'volume.img'),
      socket: transport === 'unix' ? join(folder, 'socket') : null,
      port: await freePort(),
      folder,
      memory,
    }
    closeSync(openSync(place.file, 'a'))
    truncateSync(place.file, size)
    const started = new Process(
      server.command(place),
      server.pidFile === undefined ? null : join(folder, server.pidFile),
    )
    const running = new Running(server, place, started)
    try {
      await started.listening(
        place.socket === null ? { host: '127.0.0.1', port: place.port } : { path: place.socket },
      )
    } catch (error) {
      await running.stop()
      throw error
    }
    return running
  }

  get uri(): string {
    const name = this.server.name === 'nbd-server' || this.server.name === 'dst' ? 'bench' : ''
    const { socket, port } = this.place
    return socket === null
      ? `nbd://127.0.0.1:${port}/${name}`
      : `nbd+unix:///${name}?socket=${socket}`
  }

  usage(): Usage {
    return usageOf(this.process.pid)
  }

  /** Ends it and removes its files. */
  async stop(): Promise<void> {
    await this.process.stop()
    rmSync(this.place.folder, { recursive: true, force: true })
    rmSync(this.place.memory, { recursive: true, force: true })
  }
}

/** Temporary folders for a run: on the disk under test, and in memory. */
export interface Folders {
  readonly disk: string
  readonly memory: string
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = net.createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as net.AddressInfo
      probe.close(() => resolve(port))
    })
  })
}
