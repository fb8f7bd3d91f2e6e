import type { Edit } from './mutants.ts'

/** A second line of defence, which other defects have to take away too before they do harm. */

/** Whatever serial a leg's superblock has, it is the one that it had. */
export const serialsUnheeded: Edit = {
  file: 'mirror/superblock.js',
  find: 'return serial === mark || ',
  replace: 'return true || ',
}

/** A leg whose target restarted goes on without being looked at. */
export const restartsUnheeded: Edit = {
  file: 'mirror/departure.js',
  find: "now.word === 'there' && leg.hasRestarted",
  replace: 'false',
}
