import type net from 'node:net'
import tls from 'node:tls'
import { StorageError } from '../../base/errors.ts'
import type { Proof } from '../identity.ts'
import type { Turns } from './turns.ts'

/** The name of DST/1 in the handshake (ALPN). */
export const dstProtocol = 'dst/1'

/** A connection under TLS, with what its peer has proven. */
export interface Secured {
  readonly socket: tls.TLSSocket
  /** Null for a client without a certificate, where a server lets such in. */
  readonly proof: Proof | null
  /** Why such a client has proven nothing; absent when it was not asked to. */
  readonly unproven?: string
}

/** The part of one side in TLS: what it shows to the other, and what it asks of it. */
export interface TlsSide {
  /** Whose turn it is to begin; absent: everybody's. */
  readonly turns?: Turns | null
  /**
   * Begins TLS on a connected socket, which is its own from now on; a deadline is the caller's.
   * Calls `done`, where only the first call counts: with an error the socket is to be destroyed;
   * else, what the peer has sent behind the handshake comes as soon as `done` returns. `drop` is
   * called when the peer is to be cut off later. Throws UNAVAILABLE without certificates or keys.
   */
  begin(
    socket: net.Socket,
    done: (result: Secured | StorageError) => void,
    drop: (reason: StorageError) => void,
  ): tls.TLSSocket
}

/**
 * The error that the native part has for the certificate of the peer. It is not documented; without
 * it no peer is let in.
 */
export function verifyErrorOf(socket: tls.TLSSocket): Error | null {
  const { _handle: handle } = socket as unknown as {
    _handle?: { verifyError?: () => Error | null | undefined } | null
  }
  if (typeof handle?.verifyError !== 'function') return new Error('certificates cannot be checked')
  return handle.verifyError() ?? null
}

/** An error of TLS, in words. */
export function refused(why: string, cause?: unknown): StorageError {
  return new StorageError('PROTOCOL', `TLS: ${why}`, '', cause)
}
