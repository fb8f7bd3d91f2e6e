import { Worker } from 'node:worker_threads'
import type { Clock, Timer } from '../../base/clock.ts'
import { assert, StorageError } from '../../base/errors.ts'
import { Mutex } from '../../base/mutex.ts'
import { describeSize, MiB } from '../../base/size.ts'
import type { Kdf, KeyDigest, Keyslot } from './header.ts'
import type { Answer, Job } from './worker.ts'

/** Milliseconds that one derivation may take; the bounds of headers are below that. */
const deriveMsMax = 600_000
/** Bytes of memory that are left to everything else. */
const memoryLeft = 64 * MiB

/** The derivation that the thread is at. */
interface Waiting {
  readonly resolve: (answer: Answer) => void
  readonly reject: (error: StorageError) => void
  readonly timer: Timer
}

/** Of Argon2 one derivation at a time in this process: each may take a GiB. */
const turns = new Mutex()

/** Derives keys in a thread of its own, which begins with the first and ends with `rest`. */
export class Deriver {
  private readonly clock: Clock
  private worker: Worker | null = null
  private waiting: Waiting | null = null
  private closed = false
  /** Ends what waits for its turn. */
  private end: (error: StorageError) => void = () => undefined
  private readonly ended: Promise<never>

  constructor(clock: Clock) {
    this.clock = clock
    this.ended = new Promise((_, reject) => (this.end = reject))
    this.ended.catch(() => undefined)
  }

  /** Resolves to the volume key, or to null when the passphrase does not open the keyslot. */
  open(
    passphrase: Buffer,
    keyslot: Keyslot,
    area: Buffer,
    digest: KeyDigest,
  ): Promise<Buffer | null> {
    const secrets = { passphrase: copied(passphrase), area: copied(area) }
    return this.derive({ kind: 'open', ...secrets, ...plain(keyslot), digest: bare(digest) })
  }

  /** Resolves to the bytes of a keyslot's place. */
  async seal(passphrase: Buffer, keyslot: Keyslot, key: Buffer, noise: Buffer): Promise<Buffer> {
    const secrets = { passphrase: copied(passphrase), key: copied(key), noise: copied(noise) }
    return (await this.derive({ kind: 'seal', ...secrets, ...plain(keyslot) }))!
  }

  /** Resolves to the digest of a volume key. */
  async digest(key: Buffer, digest: KeyDigest): Promise<Buffer> {
    return (await this.derive({ kind: 'digest', key: copied(key), digest: bare(digest) }))!
  }

  /** Ends the thread, which derives nothing now; the next derivation starts another. */
  async rest(): Promise<void> {
    const { worker } = this
    this.worker = null
    await worker?.terminate()
  }

  /** Ends the thread for good; what it derives fails. */
  close(): void {
    this.closed = true
    this.fail('SHUTDOWN', 'the device is being closed')
    this.end(closing())
  }

  private async derive(job: Job): Promise<Buffer | null> {
    const isLarge = job.kind !== 'digest' && job.keyslot.kdf.kind !== 'pbkdf2'
    // The derivation of another device may take a minute.
    const answer = isLarge
      ? await Promise.race([turns.run(() => this.answerLarge(job)), this.ended])
      : await this.answer(job)
    if ('failed' in answer)
      throw new StorageError('BUSY', `a key cannot be derived: ${answer.failed}`)
    const { bytes } = answer
    return bytes === null ? null : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  }

  /** Ends the thread afterwards: while it is idle it would keep the memory. */
  private async answerLarge(job: Exclude<Job, { readonly kind: 'digest' }>): Promise<Answer> {
    if (this.closed) throw closing()
    checkMemory(job.keyslot.kdf)
    try {
      return await this.answer(job)
    } finally {
      await this.rest()
    }
  }

  private answer(job: Job): Promise<Answer> {
    if (this.closed) return Promise.reject(closing())
    assert(this.waiting === null, 'a thread derives one key at a time')
    const worker = (this.worker ??= this.start())
    return new Promise((resolve, reject) => {
      const timer = this.clock.timer(deriveMsMax, () => {
        this.fail('TIMEOUT', `not at an end after ${deriveMsMax / 1000} s`)
      })
      this.waiting = { resolve, reject, timer }
      worker.ref()
      worker.postMessage(job, transferOf(job))
    })
  }

  private start(): Worker {
    const worker = new Worker(new URL('worker.js', import.meta.url), { env: {}, execArgv: [] })
    worker.on('message', (answer: Answer) => {
      const { waiting } = this
      this.waiting = null
      waiting?.timer.cancel()
      // An idle thread does not keep the process.
      worker.unref()
      waiting?.resolve(answer)
    })
    worker.on('error', (error) => {
      if (worker === this.worker) this.fail('BUSY', error.message)
    })
    worker.on('exit', () => {
      if (worker === this.worker) this.fail('SHUTDOWN', 'its thread has ended')
    })
    return worker
  }

  /** Ends the thread, and what it derives with an error. */
  private fail(code: 'BUSY' | 'TIMEOUT' | 'SHUTDOWN', why: string): void {
    const { waiting, worker } = this
    this.waiting = null
    this.worker = null
    waiting?.timer.cancel()
    void worker?.terminate()
    waiting?.reject(new StorageError(code, `a key cannot be derived: ${why}`))
  }
}

function closing(): StorageError {
  return new StorageError('SHUTDOWN', 'the device is being closed')
}

/** Refuses what would have the system end some process, perhaps this one. */
function checkMemory(kdf: Kdf): void {
  if (kdf.kind === 'pbkdf2') return
  const free = process.availableMemory()
  if (kdf.memory + memoryLeft <= free) return
  const [wants, has] = [describeSize(kdf.memory), describeSize(free)]
  throw new StorageError('BUSY', `a keyslot needs ${wants} of memory; ${has} are free`)
}

/** Bytes of their own: those of a buffer may lie in memory that others use, too. */
function copied(bytes: Buffer): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes)
}

/** What a keyslot says, with bytes of their own. */
function plain({ kdf, ...rest }: Keyslot): { readonly keyslot: Keyslot } {
  return { keyslot: { ...rest, kdf: { ...kdf, salt: Buffer.from(copied(kdf.salt).buffer) } } }
}

function bare(digest: KeyDigest): KeyDigest {
  const salt = Buffer.from(copied(digest.salt).buffer)
  return { ...digest, salt, value: Buffer.from(copied(digest.value).buffer) }
}

/** The secrets of a job, which move to the thread instead of being copied once more. */
function transferOf(job: Job): ArrayBuffer[] {
  switch (job.kind) {
    case 'open':
      return [job.passphrase.buffer, job.area.buffer]
    case 'seal':
      return [job.passphrase.buffer, job.key.buffer, job.noise.buffer]
    case 'digest':
      return [job.key.buffer]
  }
}
