import { StorageError } from '../../src/base/errors.ts'
import { MemoryStore } from './head.ts'

/** A state directory of which some cannot be read. */
export class UnreadStore extends MemoryStore {
  unread: readonly string[] = []
  /** Reads of these that were refused. */
  refusedReads = 0
  error = new StorageError('IO', 'too many open files')

  override load(key: string): Promise<string | null> {
    if (!this.unread.includes(key)) return super.load(key)
    this.refusedReads++
    return Promise.reject(this.error)
  }
}
