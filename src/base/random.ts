import { randomBytes } from 'node:crypto'

/** Chance, handed in so that a simulation repeats from one seed. */
export interface Random {
  /** A number in [0, 1). */
  fraction(): number
  /** `length` bytes that cannot be guessed; in a simulation they follow from the seed. */
  bytes(length: number): Buffer
}

export const systemRandom: Random = {
  fraction: () => Math.random(),
  bytes: (length) => randomBytes(length),
}
