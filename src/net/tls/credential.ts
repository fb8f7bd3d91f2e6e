import type { Clock } from '../../base/clock.ts'
import { StorageError } from '../../base/errors.ts'
import type { Proof } from '../identity.ts'
import { isRevoked, materialOf, type Expiry, type Material } from './material.ts'
import type { Issued } from './revocations.ts'
import { gather, signatureOf, type TlsSource } from './source.ts'

/** A connection that this credential let in, to be ended when that is taken back. */
export interface LetIn {
  readonly proof: Proof
  /** Its certificate for the authority; null with a key. */
  readonly issued: Issued | null
  /** Closes it at once. */
  readonly drop: () => void
}

/** What became of a look at the files. */
export type Look = 'same' | 'read' | 'broken'

/**
 * The files of one side of connections, as they were read last. A file that changed is read again,
 * and one that is broken then leaves in force what was read before.
 */
export class Credential {
  readonly source: TlsSource
  /** Why the files cannot be used as they are now; '' when they can. */
  problem = 'not read yet'
  /** Wall clock, milliseconds: when what is in force was read; 0 before that. */
  readAt = 0
  private readonly clock: Clock
  private material: Material | null = null
  private signature = ''
  private readonly letIn = new Set<LetIn>()

  constructor(source: TlsSource, clock: Clock) {
    this.source = source
    this.clock = clock
  }

  /** What connections are made with. Throws UNAVAILABLE while the files were never good. */
  get inForce(): Material {
    if (this.material !== null) return this.material
    throw new StorageError('UNAVAILABLE', `TLS cannot begin: ${this.problem}`)
  }

  /** What ends first of all that is in force; null when nothing does. */
  get expiry(): Expiry | null {
    return this.material?.expiry ?? null
  }

  /** Reads the files now; `problem` says what came of it. */
  read(): void {
    try {
      this.take(materialOf(this.source, gather(this.source)))
      this.problem = ''
    } catch (error) {
      if (!(error instanceof StorageError)) throw error
      this.problem = error.message
    }
  }

  /** Reads the files if they have changed since, or are broken. Never rejects. */
  async look(): Promise<Look> {
    const signature = await signatureOf(this.source)
    if (signature === this.signature && this.problem === '') return 'same'
    // Noted before reading: a change during that is seen by the next look.
    this.signature = signature
    this.read()
    return this.problem === '' ? 'read' : 'broken'
  }

  /** Keeps a connection in mind; the returned function forgets it when it is closed. */
  admit(connection: LetIn): () => void {
    this.letIn.add(connection)
    return () => this.letIn.delete(connection)
  }

  private take(material: Material): void {
    const { material: before } = this
    this.material = material
    this.readAt = this.clock.wall()
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
