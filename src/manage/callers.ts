import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Descriptors } from '../net/descriptors.ts'

/** Connections to the management: more than operators and their programs have. */
const connectionsMax = 64
/** Fewer would not do where there are few descriptors. */
const connectionsMin = 4

/**
 * Bytes that are parsed before it is looked whether a connection goes on: of all that comes in one
 * read, thousands of small requests, each would be made into objects, for milliseconds.
 */
const parsedAtOnce = 1024

/** Milliseconds within which an answer has to be read. */
const answerTimeout = 30_000

/** What a connection does. */
interface Caller {
  /** What it asked, and the answer; null while there is nothing under way. */
  asked: { readonly request: IncomingMessage; readonly response: ServerResponse } | null
  /** Whether it asked for more meanwhile, and is closed after the answer. */
  ending: boolean
}

/**
 * The connections of those who manage a target, each with one request under way: what came behind
 * it in the same packet would be carried out and held at once, however many they are. Nobody is
 * kept out by those who connect and say nothing, or half of it, or do not read: of too many, the
 * oldest of those is closed.
 */
export class Callers {
  private readonly connectionsMax: number
  /** The oldest come first. */
  private readonly callers = new Map<Socket, Caller>()

  /**
   * Of the descriptors that clients leave to everything else, half are for that: programs that are
   * started, files that are opened.
   */
  constructor(descriptors: Descriptors | null = null) {
    const half = descriptors === null ? connectionsMax : Math.floor(descriptors.kept / 2)
    this.connectionsMax = Math.max(connectionsMin, Math.min(connectionsMax, half))
  }

  joined(socket: Socket): void {
    const caller: Caller = { asked: null, ending: false }
    this.callers.set(socket, caller)
    parseInPieces(socket, caller)
    socket.once('close', () => this.callers.delete(socket))
    if (this.callers.size <= this.connectionsMax) return
    const idle = [...this.callers].find(([, caller]) => !isCarriedOut(caller))
    idle![0].destroy()
  }

  /** Whether the request is carried out: not if it did not wait for the answer to another one. */
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

  /** The answer is about to be sent. */
  answering(response: ServerResponse): void {
    const { socket } = response
    if (socket === null) return
    const timer = setTimeout(() => socket.destroy(), answerTimeout)
    response.once('close', () => clearTimeout(timer))
  }
}

/** What comes behind a request that did not wait for its turn is dropped unread. */
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

/** Whether a request is here as a whole and its answer is not yet made. */
function isCarriedOut({ asked }: Caller): boolean {
  return asked !== null && asked.request.complete && !asked.response.headersSent
}
