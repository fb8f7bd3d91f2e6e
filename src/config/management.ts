import { isObject } from '../base/guards.ts'
import { parseAddress } from '../net/address.ts'
import { gather } from '../net/tls/source.ts'
import { tokensIn } from '../net/tokens.ts'
import type { StorageError } from '../base/errors.ts'
import type * as config from './config.types.ts'
import { checkRange, isBeyond } from './rights.ts'
import { step, type Problem } from './source.ts'
import { elements, entries, type Loose } from './tree.ts'

/** The places where a target is managed, of a configuration that was checked. */
export function managementsOf({ management }: config.Config): readonly config.Management[] {
  return [management ?? []].flat()
}

/** A place where a target is managed, of a configuration that may be wrong. */
export interface LoosePlace {
  readonly value: Loose
  readonly pointer: string
}

/** The places where a target is managed; those that are no objects are left out. */
export function managementPlaces({ management }: Loose): readonly LoosePlace[] {
  const alone = { value: management, pointer: '/management' }
  const places = Array.isArray(management) ? elements(management, '/management') : [alone]
  return places.flatMap(({ value, pointer }) => (isObject(value) ? [{ value, pointer }] : []))
}

/** Whether a rule asks for a certificate, so that clients have to be asked for theirs. */
export function asksForCertificates({ allow }: Loose): boolean {
  const rules = elements(allow, '')
  return rules.some(({ value }) => isObject(value) && value['certificate'] !== undefined)
}

/** Checks who may manage the target. */
export function checkManagements(config: Loose, problems: Problem[]): void {
  for (const { value, pointer } of managementPlaces(config)) {
    checkReach(value, pointer, problems)
    const { credentials: name } = value
    const named = entries(config['credentials'], '').find(({ label }) => label === name)?.value
    if (isObject(named) && named['psk'] !== undefined) {
      const what = 'it has keys ("psk"), and https needs certificates'
      problems.push({ what, pointer: step(pointer, 'credentials') })
    }
    for (const rule of elements(value['allow'], step(pointer, 'allow')))
      if (isObject(rule.value)) checkRule(rule.value, rule.pointer, problems)
    if (asksForCertificates(value) && value['credentials'] === undefined) {
      const what = 'a rule asks for a certificate, which needs TLS: "credentials" are missing'
      problems.push({ what, pointer: step(pointer, 'allow') })
    }
  }
}

function checkReach(value: Loose, pointer: string, problems: Problem[]): void {
  const { address, open, credentials, allow, tokens } = value
  if (typeof address !== 'string') return
  if (parseAddress(address)?.kind === 'unix') {
    for (const name of ['credentials', 'allow', 'tokens'])
      if (value[name] !== undefined) {
        const what = `"${name}" is for TCP: who may use a unix socket is said by its mode`
        problems.push({ what, pointer: step(pointer, name) })
      }
    return
  }
  const place = step(pointer, 'address')
  if (credentials === undefined && tokens !== undefined) {
    const what =
      'tokens need TLS, and "credentials" are missing: who is on the way, or has the port ' +
      'while the target is away, would read them'
    problems.push({ what, pointer: place })
    return
  }
  if (!isBeyond(address)) return
  const asks = allow !== undefined || tokens !== undefined
  if (open !== true && (credentials === undefined || !asks)) {
    const lacks = asks ? '"credentials" for TLS are' : '"allow" or "tokens" is'
    const what =
      `other machines reach "${address}", and all who do can do what the user of the target ` +
      `can: ${lacks} missing; "open": true says that this is meant`
    problems.push({ what, pointer: place })
  }
}

function checkRule({ certificate, address }: Loose, pointer: string, problems: Problem[]): void {
  if (certificate === undefined && address === undefined)
    problems.push({ what: 'the rule does not say who it is for: certificate, address', pointer })
  checkRange(address, pointer, problems)
}

/** Reads each file of tokens and returns what is wrong with it. */
export function checkTokenFiles(config: config.Config): Problem[] {
  return managementPlaces(config as unknown as Loose).flatMap(({ value, pointer }) => {
    const { tokens: path } = value
    if (typeof path !== 'string') return []
    const file = { path, needed: true }
    try {
      tokensIn(file, gather([file]))
      return []
    } catch (error) {
      return [{ what: (error as StorageError).message, pointer: step(pointer, 'tokens') }]
    }
  })
}
