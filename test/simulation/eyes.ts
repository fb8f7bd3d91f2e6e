/** What a world may be, or look at, beyond what every world is and sees. Each seed has some. */
export const eyeNames = [
  /** A flush that fails drops what it was to write. */
  'drops',
  /** A volume without an intent log. */
  'noLog',
  /** Saves that are slow, or hang. */
  'saves',
  /** Legs in sync are compared whenever nothing is under way. */
  'still',
  /** A leg is rolled back in its place. */
  'rollBack',
  /** A head that was replaced comes back with its own state. */
  'olderHead',
  /** Two blows, each at an effect. */
  'pairs',
  /** Some events come later than they would have. */
  'delays',
  /** Settings as an operator hardly ever has them. */
  'extremes',
] as const
export type Eye = (typeof eyeNames)[number]

/** Open in every run: what they saw in the program is mended. */
const openEyes: readonly Eye[] = ['drops', 'noLog', 'still', 'rollBack', 'pairs', 'delays']

/** `DST_EYES`: more of them, by name, or `all`. */
export function isOpen(eye: Eye): boolean {
  const wanted = process.env['DST_EYES'] ?? ''
  return openEyes.includes(eye) || wanted === 'all' || wanted.split(',').includes(eye)
}
