import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Descriptors } from '../net/descriptors.ts'

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
  /** The request under way and its answer; null while there is none. */
  asked: { readonly request: IncomingMessage; readonly response: ServerResponse } | null
  /** True if the client asked for more meanwhile: the connection is closed after the answer. */
  ending: boolean
}

/**
 * Bounds the connections to the management, with one request under way on each: otherwise all
 * requests of one packet would be carried out at the same time, however many they are. A client
 * that connects and sends nothing or half a request, or does not read, keeps no other out: when
 * there are too many connections, the oldest of those is closed.
 */
export class Callers {
  private readonly connectionsMax: number
  /** The connections, the oldest first. */
  private readonly callers = new Map<Socket, Caller>()

  /**
   * `descriptors` bounds the number: half of those that clients leave are for other work, such as
   * starting programs and opening files.
   */
  constructor(descriptors: Descriptors | null = null) {
    const half = descriptors === null ? connectionsMax : Math.floor(descriptors.kept / 2)
    this.connectionsMax = Math.max(connectionsMin, Math.min(connectionsMax, half))
  }

  /** Takes a new connection, and closes an idle one if there are too many. */
  joined(socket: Socket): void {
    const caller: Caller = { asked: null, ending: false }
    this.callers.set(socket, caller)
    parseInPieces(socket, caller)
    socket.once('close', () => this.callers.delete(socket))
    if (this.callers.size <= this.connectionsMax) return
    const idle = [...this.callers].find(([, caller]) => !isCarriedOut(caller))
    idle![0].destroy()
  }

  /** Returns false for a request that did not wait for the answer to another: it is dropped. */
  begin(request: IncomingMessage, response: ServerResponse): boolean {
    const { socket } = request
    const caller = this.callers.get(socket)
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
