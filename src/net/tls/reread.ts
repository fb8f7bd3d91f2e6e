import type { Clock } from '../../base/clock.ts'
import { StorageError } from '../../base/errors.ts'
import { gather, signatureNow, signatureOf, type Gathered, type TlsFile } from './source.ts'

/** What became of a look at the files. */
export type Look = 'same' | 'read' | 'broken'

/** Something that ends: a certificate, or a list of revoked ones that has to be made anew. */
export interface Expiry {
  readonly path: string
  /** Milliseconds since 1970. */
  readonly notAfter: number
}

/**
 * Files that are read again when they have changed. While they are broken, what was read before
 * stays in force.
 */
export abstract class Reread {
  /** Why the files cannot be used as they are now; '' when they can. */
  problem = 'not read yet'
  /** Wall clock, milliseconds: when what is in force was read; 0 before that. */
  readAt = 0
  private readonly files: readonly TlsFile[]
  private readonly clock: Clock
  private signature = ''

  constructor(files: readonly TlsFile[], clock: Clock) {
    this.files = files
    this.clock = clock
  }

  /** What ends first of all that is in force; null when nothing does. */
  abstract get expiry(): Expiry | null

  /** Puts in force what the files have. Throws a StorageError when they cannot be used. */
  protected abstract take(found: Gathered): void

  /** Reads the files now; `problem` says what came of it. */
  read(): void {
    // Noted before reading: a change during that is seen by the next look.
    this.signature = signatureNow(this.files)
    try {
      this.take(gather(this.files))
      this.readAt = this.clock.wall()
      this.problem = ''
    } catch (error) {
      if (!(error instanceof StorageError)) throw error
      this.problem = error.message
    }
  }

  /** Reads the files if they have changed since, or are broken. Never rejects. */
  async look(): Promise<Look> {
    const signature = await signatureOf(this.files)
    if (signature === this.signature && this.problem === '') return 'same'
    this.read()
    return this.problem === '' ? 'read' : 'broken'
  }
}
