import type { LinkOptions } from '../peer/link.ts'

/** What the configuration says of a `remote`; `connectTimeout` counts again for the hello. */
export interface RemoteOptions extends LinkOptions {
  /** The export's name. */
  readonly name: string
  readonly connections: number
  /** Milliseconds that requests are held for while the remote is away. */
  readonly hold: number
  /** Milliseconds between two pings of a connection. */
  readonly pingInterval: number
  /** Milliseconds of silence after which a connection is given up. */
  readonly pingTimeout: number
  /**
   * Milliseconds without an answer to a request, or to a question such as a claim, before the
   * session begins anew; 0: for ever.
   */
  readonly requestTimeout: number
  readonly checksums: boolean
  /** Bytes that the export must have; null: any size is taken. */
  readonly size: number | null
  /**
   * Whether an export of another size is waited for like one that is away, so that it takes nothing
   * else down; otherwise `open` rejects.
   */
  readonly awaitSize?: boolean
  /**
   * Whether another device may answer in place of the first one. Only for mirrors and the like,
   * which look at what is on it; for anything else it would be silent corruption.
   */
  readonly follow: boolean
}

export const defaultRemoteOptions: Omit<RemoteOptions, 'address' | 'name'> = {
  // The second carries what would otherwise wait behind large payloads of the first; one event
  // loop gains nothing from more.
  connections: 2,
  // A target restarts within seconds; programs that wait give up after a minute or so.
  hold: 30_000,
  connectTimeout: 10_000,
  pingInterval: 5000,
  pingTimeout: 15_000,
  requestTimeout: 0,
  checksums: false,
  size: null,
  follow: false,
}
