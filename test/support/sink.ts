import { local } from '../../src/net/identity.ts'
import type { Connection } from '../../src/net/network.ts'

/** What was sent, in characters. */
export class Sink implements Connection {
  readonly peer = 'nobody'
  readonly identity = local
  readonly batchBytes: number
  readonly sent: string[] = []
  destroyed = false

  constructor(batchBytes = Infinity) {
    this.batchBytes = batchBytes
  }

  send(buffers: readonly Buffer[]): void {
    this.sent.push(Buffer.concat(buffers).toString('latin1'))
  }

  pause(): void {
    // Nothing is received.
  }

  resume(): void {
    // Nothing is received.
  }

  end(): void {
    // Nothing is kept open.
  }

  destroy(): void {
    this.destroyed = true
  }
}
