import type { Deriver } from './deriver.ts'
import { stripesBytes } from './keyslot.ts'
import type { Medium } from './medium.ts'
import type { Stored } from './store.ts'

/** A volume key, which the holder overwrites after use, and the keyslot that had it. */
export interface Unlocked {
  readonly key: Buffer
  readonly slot: number
}

/** Keyslots to be tried: all but one, that one alone, or all that may be tried unasked. */
export interface Choice {
  readonly only?: number
  readonly except?: number
}

/** Tries the keyslots in turn. Resolves to null when the passphrase opens none of them. */
export async function unlock(
  medium: Medium,
  { header }: Stored,
  { passphrase, deriver }: { readonly passphrase: Buffer; readonly deriver: Deriver },
  { only, except }: Choice = {},
): Promise<Unlocked | null> {
  const slots = header.keyslots
    .filter(({ id, priority }) => (only === undefined ? priority > 0 : id === only))
    .filter(({ id }) => id !== except)
    .toSorted((one, other) => other.priority - one.priority || one.id - other.id)
  for (const slot of slots) {
    const area = await medium.read(slot.offset, stripesBytes(slot))
    const key = await deriver.open(passphrase, slot, area, header.digest)
    if (key !== null) return { key, slot: slot.id }
  }
  return null
}
