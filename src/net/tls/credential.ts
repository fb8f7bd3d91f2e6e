import type { Clock } from '../../base/clock.ts'
import { StorageError } from '../../base/errors.ts'
import type { Proof } from '../identity.ts'
import { isRevoked, materialOf, type Material } from './material.ts'
import { Reread, type Expiry } from './reread.ts'
import type { Issued } from './revocations.ts'
import { filesOf, type Gathered, type TlsSource } from './source.ts'

/** A connection that this credential let in, to be ended when that is taken back. */
export interface LetIn {
  readonly proof: Proof
  /** Its certificate for the authority; null with a key. */
  readonly issued: Issued | null
  /** Closes it at once. */
  readonly drop: () => void
}

/** The files of one side of connections, as they were read last. */
export class Credential extends Reread {
  readonly source: TlsSource
  private material: Material | null = null
  private readonly letIn = new Set<LetIn>()

  constructor(source: TlsSource, clock: Clock) {
    super(filesOf(source), clock)
    this.source = source
  }

  /** What connections are made with. Throws UNAVAILABLE while the files were never good. */
  get inForce(): Material {
    if (this.material !== null) return this.material
    throw new StorageError('UNAVAILABLE', `TLS cannot begin: ${this.problem}`)
  }

  get expiry(): Expiry | null {
    return this.material?.expiry ?? null
  }

  /** Keeps a connection in mind; the returned function forgets it when it is closed. */
  admit(connection: LetIn): () => void {
    this.letIn.add(connection)
    return () => this.letIn.delete(connection)
  }

  protected take(found: Gathered): void {
    const material = materialOf(this.source, found)
    const { material: before } = this
    this.material = material
    if (before === null) return
    for (const connection of [...this.letIn])
      if (!stillProven(connection, before, material)) connection.drop()
  }
}

/** Whether what a connection has proven holds still. */
function stillProven({ proof, issued }: LetIn, before: Material, now: Material): boolean {
  if ('psk' in proof) {
    const [old, key] = [before.keys?.get(proof.psk), now.keys?.get(proof.psk)]
    return old !== undefined && key !== undefined && old.equals(key)
  }
  // Which authority a certificate was traced to is not known: one that went may have been it.
  for (const authority of before.authorities) if (!now.authorities.has(authority)) return false
  return issued !== null && !isRevoked(now, issued)
}
