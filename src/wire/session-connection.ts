import { StorageError } from '../base/errors.ts'
import type { WireFacts } from './hello.ts'

/** A connection as its session sees it. */
export interface SessionConnection {
  readonly index: number
  readonly peer: string
  /** What the client has proven by TLS, for people; '' without TLS. */
  readonly identity: string
  /** What the client has proven by TLS; '' without TLS. A session is bound to it. */
  readonly owner: string
  /** Closes it at once: nothing that it still brings is carried out. */
  kick(reason: string): void
  tellFacts(facts: WireFacts): void
  /** Another session has claimed the device with this fence number, which is above this one's. */
  tellFenced?(fence: number): void
}

/** Why a connection cannot join a session: its client has proven another identity, or none. */
export function notItsOwner(
  session: { readonly owner: string },
  { owner }: SessionConnection,
): StorageError | null {
  if (session.owner === owner) return null
  return new StorageError('PROTOCOL', 'the session is of a client with another identity')
}
