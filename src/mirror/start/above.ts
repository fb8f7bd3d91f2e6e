import { StorageError, systemError } from '../../base/errors.ts'
import type { Claimed } from '../../device/device.ts'
import { stored } from '../deadline.ts'
import type { Volume } from '../volume.ts'
import { nobodys } from './head-memory.ts'
import { readOwn } from './own-files.ts'

const suffix = '_above'

/** No head claims so little: whoever reads it knows that it was another one's. */
const anothers: Claimed = { held: 0, givenUp: 1 }

/**
 * With what this volume was claimed as a leg of another one. It refuses nobody, because its own
 * legs refuse older heads. But it has to tell, as a remote target would: where another head has had
 * those legs since, that one had the volume above as well, and may have gone on there without this
 * leg. Kept in the head's own store; null there for nothing, and for versions of before.
 */
export class ClaimAbove {
  private known: Claimed = nobodys
  private saved = ''
  private loaded = false

  /** Reads it, once; what is lost tells of another head as well. Returns why it is unread. */
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

  async claim(volume: Volume, epoch: number): Promise<void> {
    const before = this.known
    await this.save(volume, `${epoch}`)
    // What was found meanwhile is saved behind it.
    if (this.known === before) this.known = { held: epoch, givenUp: 0 }
  }

  /** Another head has had the legs: durable before these are claimed, which ends what told it. */
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
