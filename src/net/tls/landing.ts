import net from 'node:net'
import type tls from 'node:tls'

/** What the native part calls. It is not documented; what is not there is not needed either. */
interface TlsHandle {
  onhandshakestart: () => void
  onhandshakedone: () => void
  onerror: (error: Error) => void
  useUserBuffer?: unknown
}

/** How a socket lands its bytes: see `net.SocketConstructorOpts`. */
export type Landing = net.OnReadOpts

/**
 * The same connection under TLS as a socket that lands its bytes where it is told to, which a
 * TLSSocket on top of another socket does not. Its handshake is done. Where the handle looks
 * different, the socket stays as it is and its bytes come by events.
 */
export function landingOver(secured: tls.TLSSocket, onread: Landing, bytes: number): net.Socket {
  const { _handle: handle } = secured as unknown as { _handle?: TlsHandle | null }
  if (typeof handle?.useUserBuffer !== 'function') return secured
  const socket = new net.Socket({
    handle,
    highWaterMark: bytes,
    onread,
    manualStart: true,
  } as unknown as net.SocketConstructorOpts)
  // They look for their TLSSocket, which is not there any more, and would stop the process: a peer
  // that renews its keys calls the first two.
  handle.onhandshakestart = nothing
  handle.onhandshakedone = nothing
  handle.onerror = (error) => socket.destroy(error)
  return socket
}

function nothing(): void {
  // The connection goes on.
}
