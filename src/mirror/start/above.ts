import { StorageError, systemError } from '../../base/errors.ts'
import type { Claimed } from '../../device/device.ts'
import { stored } from '../deadline.ts'
import type { Volume } from '../volume.ts'
import { nobodys } from './head-memory.ts'
import { readOwn } from './own-files.ts'

const suffix = '_above'

/** A claim that no head makes, because it is so low: it stands for a claim of another head. */
const anothers: Claimed = { held: 0, givenUp: 1 }

/**
 * The claim on this volume as a leg of another volume. It refuses no head, because its own legs
 * refuse older ones. But it has to tell, as a remote target would: if another head has had those
 * legs since, that head had the volume above as well, and may have gone on there without this leg.
 * Kept in the head's own store; missing there if the volume was never claimed, or only under an
 * older version.
 */
export class ClaimAbove {
  private known: Claimed = nobodys
  private saved = ''
  private loaded = false

  /**
   * Reads the file, once; a lost file counts as a claim of another head. Resolves to why it is
   * unread, '' if it is not.
   */
  async load(volume: Volume): Promise<string> {
    if (this.loaded) return ''
    const { value, lost, unread } = await readOwn({ volume, suffix }, parse)
    this.known = value ?? (lost ? anothers : nobodys)
    this.loaded = unread === ''
    return unread
  }

  get claimed(): Claimed {
    return this.known
  }

  /** Takes the claim of the head above. Rejects when it cannot be saved. */
  async claim(volume: Volume, epoch: number): Promise<void> {
    const before = this.known
    await this.save(volume, `${epoch}`)
    // If `lose` came in between, what it saved is newer.
    if (this.known === before) this.known = { held: epoch, givenUp: 0 }
  }

  /**
   * Notes that another head has had the legs. Must be durable before they are claimed, which ends
   * what told of it. Rejects when it cannot be saved.
   */
  async lose(volume: Volume): Promise<void> {
    this.known = anothers
    await this.save(volume, `${anothers.givenUp}`)
  }

  private async save(volume: Volume, text: string): Promise<void> {
    const { store, path } = volume
    if (store === null || text === this.saved) return
    try {
      await stored(volume, store.save(`${volume.key}${suffix}`, text))
      this.saved = text
    } catch (error) {
      const { code, message } = systemError(error, 'saving')
      throw new StorageError(code, `the state directory cannot be written: ${message}`, path)
    }
  }
}

function parse(text: string): Claimed | null {
  const held = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(held)) return null
  return held === anothers.givenUp ? anothers : { held, givenUp: 0 }
}
