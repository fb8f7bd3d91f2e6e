import type { Socket } from 'node:net'
import { StorageError } from '../base/errors.ts'
import type { ServerTls } from '../net/tls/server.ts'
import { refused, type Secured } from '../net/tls/side.ts'

/** Milliseconds from the connection to the end of the handshake, the wait for its turn included. */
const handshakeTimeout = 10_000

/**
 * Puts TLS on a new connection when it is the turn of its peer, which counts as `origin`. Calls
 * `done` once, with an error when the connection is to be destroyed.
 */
export function shakeHands(
  socket: Socket,
  origin: string,
  tls: ServerTls,
  done: (result: Secured | StorageError) => void,
): void {
  let isOver = false
  let leave = (): void => undefined
  const finish = (result: Secured | StorageError): void => {
    if (isOver) return
    isOver = true
    clearTimeout(timer)
    leave()
    done(result)
  }
  const timer = setTimeout(() => {
    finish(refused(`no handshake in ${handshakeTimeout} ms`))
  }, handshakeTimeout)
  socket.on('error', () => undefined)
  socket.once('close', () => finish(refused('the client closed before the handshake')))
  const begin = (): void => {
    if (isOver || socket.destroyed) return
    try {
      const above = tls.begin(socket, finish, () => socket.destroy())
      above.on('error', () => undefined)
    } catch (error) {
      if (!(error instanceof StorageError)) throw error
      finish(error)
    }
  }
  // Later, because the turn may come at once, before its way out is known.
  const beginSoon = (): void => process.nextTick(begin)
  if (tls.turns === null) beginSoon()
  else leave = tls.turns.enter(origin, beginSoon)
}
