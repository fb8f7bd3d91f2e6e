import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Descriptors } from '../net/descriptors.ts'
import type { Peer } from './gate.ts'

/** The most connections to the management: more than operators and their programs need. */
const connectionsMax = 64
/** The same where there are few descriptors: fewer would not do. */
const connectionsMin = 4

/**
 * Bytes that are parsed before checking whether the connection goes on: one read may bring
 * thousands of small requests, and making objects of all of them would take milliseconds.
 */
const parsedAtOnce = 1024

/** Milliseconds in which the client has to read an answer. */
const answerTimeout = 30_000

/** The state of a connection. */
interface Caller {
  /** Below TLS. */
  readonly socket: Socket
  /** Until its requests come, without what it proves by TLS. */
  peer: Peer
  /** The request under way and its answer; null while there is none. */
  asked: { readonly request: IncomingMessage; readonly response: ServerResponse } | null
  /** True if the client asked for more meanwhile: the connection is closed after the answer. */
  ending: boolean
}

/**
 * Bounds the connections to the management, with one request under way on each: otherwise all
 * requests of one packet would be carried out at the same time, however many they are. A client
 * that connects and sends nothing or half a request, or does not read, keeps no other out: when
 * there are too many connections, one of those is closed, of the peer that has the most.
 */
export class Callers {
  private readonly connectionsMax: number
  /** The connections, the oldest first. */
  private readonly callers = new Set<Caller>()
  /** By the socket that requests come by. */
  private readonly bySocket = new WeakMap<Socket, Caller>()

  /**
   * `descriptors` bounds the number: half of those that clients leave are for other work, such as
   * starting programs and opening files; the other half is for so many `servers`.
   */
  constructor(descriptors: Descriptors | null = null, servers = 1) {
    const half = descriptors === null ? Infinity : Math.floor(descriptors.kept / 2 / servers)
    this.connectionsMax = Math.max(connectionsMin, Math.min(connectionsMax, half))
  }

  /** Takes a new connection, and closes an idle one if there are too many. */
  joined(socket: Socket, peer: Peer): void {
    const caller: Caller = { socket, peer, asked: null, ending: false }
    this.callers.add(caller)
    this.bySocket.set(socket, caller)
    socket.once('close', () => this.callers.delete(caller))
    if (this.callers.size > this.connectionsMax) this.superfluous()?.socket.destroy()
  }

  /**
   * Says that the requests of a connection come by `socket`, which is itself or TLS above it. Their
   * parser is there.
   */
  speaks(connection: Socket, socket: Socket, peer: Peer): void {
    const caller = this.bySocket.get(connection)!
    caller.peer = peer
    this.bySocket.set(socket, caller)
    parseInPieces(socket, caller)
  }

  /** Who sends a request that `begin` took. */
  peerOf({ socket }: IncomingMessage): Peer {
    return this.bySocket.get(socket)!.peer
  }

  /** Closes every connection at once. */
  close(): void {
    for (const { socket } of this.callers) socket.destroy()
  }

  /** The oldest idle connection of the peer that has the most of those. */
  private superfluous(): Caller | undefined {
    const idle = [...this.callers].filter((caller) => !isCarriedOut(caller))
    const byOrigin = new Map<string, Caller[]>()
    for (const caller of idle) {
      const { origin } = caller.peer
      byOrigin.set(origin, [...(byOrigin.get(origin) ?? []), caller])
    }
    const [most] = [...byOrigin.values()].toSorted((one, other) => other.length - one.length)
    return most?.[0]
  }

  /** Returns false for a request that did not wait for the answer to another: it is dropped. */
  begin(request: IncomingMessage, response: ServerResponse): boolean {
    const { socket } = request
    const caller = this.bySocket.get(socket)
    if (caller === undefined) return false
    if (caller.asked !== null) {
      endAfterAnswer(socket, caller)
      return false
    }
    caller.asked = { request, response }
    response.once('close', () => (caller.asked = null))
    return true
  }

  /** Called before an answer is sent: cuts off a client that does not read it in time. */
  answering(response: ServerResponse): void {
    const { socket } = response
    if (socket === null) return
    const timer = setTimeout(() => socket.destroy(), answerTimeout)
    response.once('close', () => clearTimeout(timer))
  }
}

/** Feeds the parser piece by piece, and stops when a request did not wait for its turn. */
function parseInPieces(socket: Socket, caller: Caller): void {
  const parsers = socket.listeners('data') as ((bytes: Buffer) => void)[]
  socket.on('data', (bytes) => {
    for (let at = 0; at < bytes.length && !caller.ending && !socket.destroyed; at += parsedAtOnce)
      for (const parse of parsers) parse(bytes.subarray(at, at + parsedAtOnce))
  })
  for (const parse of parsers) socket.removeListener('data', parse)
}

function endAfterAnswer(socket: Socket, caller: Caller): void {
  const { asked, ending } = caller
  if (ending || asked === null) return
  const { response } = asked
  caller.ending = true
  socket.pause()
  if (!response.headersSent) response.setHeader('connection', 'close')
  response.once('finish', () => socket.destroySoon())
}

/** True if a request has arrived as a whole and its answer is not ready yet. */
function isCarriedOut({ asked }: Caller): boolean {
  return asked !== null && asked.request.complete && !asked.response.headersSent
}
