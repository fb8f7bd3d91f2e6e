import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { backingExtraBytes, type Place, type Server } from './servers.ts'

/** The part of a configuration file that is written here. */
export type DeviceConfig = Readonly<Record<string, unknown>>

/** What a target serves as `bench`: named, because it is part of a row's key. */
export interface Tree {
  readonly name: string
  /** Other servers it stands on, started beforehand and not measured. */
  readonly backings: readonly Server[]
  device(place: Place): DeviceConfig
}

/** A leaf where the place says: in memory, or a file. */
export const leafTree: Tree = {
  name: 'leaf',
  backings: [],
  device: ({ media, size, file }) =>
    media === 'file' ? { type: 'file', path: file } : { type: 'memory', size },
}

function mirrorOf(size: number, legs: readonly DeviceConfig[]): DeviceConfig {
  const named = legs.map((leg, at) => [`leg${at}`, leg] as const)
  return { type: 'mirror', size, legs: Object.fromEntries(named) }
}

/** Of legs in memory. */
export const mirrorTree: Tree = {
  name: 'mirror of 2',
  backings: [],
  device: ({ size }) => {
    const leg = { type: 'memory', size: size + backingExtraBytes }
    return mirrorOf(size, [leg, leg])
  },
}

/** A mirror over exports of other NBD servers. */
export function mirrorOver(name: string, backings: readonly Server[]): Tree {
  const leg = (uri: string): DeviceConfig => ({ type: 'nbd', uri })
  return { name, backings, device: (place) => mirrorOf(place.size, place.backings.map(leg)) }
}

/** An export of another target under the same name: what `dst bridge` does. */
export function bridgeTree(backing: Server): Tree {
  return {
    name: 'bridge over DST/1',
    backings: [backing],
    device: ({ backings: [uri] }) => ({ type: 'remote', uri }),
  }
}

export interface TargetOptions {
  /** The server's name in the report. */
  readonly name?: string
  readonly protocol?: 'nbd' | 'dst'
  /** The folder with the `dist` of the version to run; this one's by default. */
  readonly root?: string
  /** The share of its processor time that the target wastes: to see whether that is found. */
  readonly slowdown?: number
}

/** The folder of this project. */
export const root = join(import.meta.dirname, '../../..')

/** Of a built checkout: what `dst` runs. */
export const program = 'dist/src/cli/main.js'

/** This project's target, serving a tree. */
export function target(tree: Tree, options: TargetOptions = {}): Server {
  const { name = 'dst', protocol = 'nbd', slowdown = 0 } = options
  return {
    name,
    program: null,
    protocol,
    exportName: 'bench',
    backings: tree.backings,
    command: (place) => {
      const { socket, port, folder } = place
      const path = join(folder, 'config.json')
      const config = {
        listeners: [
          { protocol, address: socket === null ? `127.0.0.1:${port}` : `unix:${socket}` },
        ],
        management: { address: `unix:${join(folder, 'management')}` },
        state: { directory: join(folder, 'state') },
        devices: { bench: tree.device(place) },
        exports: { bench: { device: 'bench' } },
        log: { level: 'warn' },
      }
      writeFileSync(path, JSON.stringify(config))
      const plant = pathToFileURL(join(import.meta.dirname, 'plant.js'))
      const planted = slowdown === 0 ? [] : ['--import', `${plant.href}?${slowdown}`]
      return [process.execPath, ...planted, join(options.root ?? root, program), 'serve', path]
    },
  }
}
