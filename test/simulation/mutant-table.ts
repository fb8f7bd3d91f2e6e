import type { Mutant } from './mutants.ts'

/** Defects that the simulation must find. */
export const mutantTable: readonly Mutant[] = []
