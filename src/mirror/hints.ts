import type { Leg } from './leg.ts'
import type { Volume } from './volume.ts'

/**
 * What the operator may type, or wait for, about a leg in the state that `status` shows; '' if it
 * is well.
 */
export function legHint(volume: Volume, { name, refusal }: Leg, state: string): string {
  const { path, running } = volume
  // Commands on legs are refused then, and the hint of the volume says what to do.
  if (!running) return state === 'missing' ? 'it comes back by itself once it is there' : ''
  const attach = `\`dst leg attach ${path} ${name}`
  // Some reasons say what to do themselves.
  if (refusal.includes('`')) return ''
  if (refusal !== '')
    return `${attach}\` looks at it again; with --discard it loses what it has alone`
  const another = `another disk in its place: ${attach} --replace\``
  const without = `to go on without it: \`dst leg remove ${path} ${name}\``
  if (state === 'failed') return `it is tried again by itself; ${another}; ${without}`
  if (state === 'missing') return `it comes back by itself once it is there; ${another}; ${without}`
  return state === 'detached' ? `${attach}\` puts it back` : ''
}

/** The same for a volume that does not run. */
export function volumeHint({ word, reason, path }: Volume): string {
  if (reason.includes('`')) return ''
  if (word === 'failed') return `\`dst volume start ${path} --force\` takes the legs back`
  if (word !== 'waiting') return ''
  const start = `\`dst volume start ${path}`
  return `${start}\` tries again; with --force it is your word that no absent leg is newer`
}
