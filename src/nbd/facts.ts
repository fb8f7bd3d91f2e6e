import { createHash } from 'node:crypto'
import type { Random } from '../base/random.ts'
import { MiB, roundDown } from '../base/size.ts'
import type { Facts } from '../device/device.ts'
import type { Terms } from './handshake.ts'
import { TransmissionFlag } from './options.ts'

/** The longest payload, whatever the server allows. */
const payloadMax = 32 * MiB

/**
 * The facts of an export. NBD tells only its name and size, so two exports that agree in address,
 * name and size cannot be told apart. Nor does it tell whether a server has restarted, so each
 * session has a boot id of its own.
 */
export function factsOf(terms: Terms, uri: string, random: Random): Facts {
  const { flags, blockSizes } = terms
  const has = (flag: number): boolean => (flags & flag) !== 0
  const flush = has(TransmissionFlag.flush) ? 'native' : 'none'
  const forced = flush === 'none' ? 'none' : 'emulated'
  const identity = createHash('sha256').update(`${uri} ${terms.size}`)
  return {
    size: roundDown(terms.size, blockSizes.minimum),
    blockSize: blockSizes.minimum,
    preferredBlockSize: blockSizes.preferred,
    payloadMax: roundDown(Math.min(payloadMax, blockSizes.maximum), blockSizes.minimum),
    readOnly: has(TransmissionFlag.readOnly),
    flush,
    fua: has(TransmissionFlag.fua) ? 'native' : forced,
    trim: has(TransmissionFlag.trim) ? 'native' : 'none',
    writeZeroes: has(TransmissionFlag.writeZeroes) ? 'native' : 'emulated',
    fastZero: has(TransmissionFlag.fastZero),
    status: terms.context === null ? 'none' : 'native',
    rotational: has(TransmissionFlag.rotational),
    identity: identity.digest('hex').slice(0, 32),
    bootId: random.bytes(16).toString('hex'),
  }
}
