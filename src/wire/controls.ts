import type { Clock } from '../base/clock.ts'
import { StorageError } from '../base/errors.ts'
import type { Dialer } from './dialer.ts'

interface Asked {
  /** Monotonic, milliseconds. */
  readonly at: number
  readonly resolve: (text: string) => void
  readonly reject: (error: StorageError) => void
}

/** Asks a target questions that are no requests of a range; they are rare, so promises do. */
export class Controls {
  private readonly dialer: Dialer
  private readonly clock: Clock
  private readonly asked = new Map<number, Asked>()
  private sequence = 0

  constructor(dialer: Dialer, clock: Clock) {
    this.dialer = dialer
    this.clock = clock
  }

  /** Resolves to the answer; rejects with what the target says, UNAVAILABLE without a session. */
  ask(command: number, value: number): Promise<string> {
    const [connection] = this.dialer.connections
    if (connection === undefined)
      return Promise.reject(new StorageError('UNAVAILABLE', 'the remote is away'))
    const sequence = this.sequence++ >>> 0
    connection.ask(command, sequence, value)
    const at = this.clock.now()
    return new Promise((resolve, reject) => this.asked.set(sequence, { at, resolve, reject }))
  }

  /** Whether a question was asked before that moment and has no answer. */
  overdue(before: number): boolean {
    for (const { at } of this.asked.values()) if (at < before) return true
    return false
  }

  answered(sequence: number, error: StorageError | null, text: string): void {
    const asked = this.asked.get(sequence)
    if (asked === undefined) return
    this.asked.delete(sequence)
    if (error === null) asked.resolve(text)
    else asked.reject(error)
  }

  failAll(error: StorageError): void {
    for (const { reject } of this.asked.values()) reject(error)
    this.asked.clear()
  }
}
