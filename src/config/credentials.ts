import { isObject } from '../base/guards.ts'
import { parseUri } from '../net/uri.ts'
import { materialOf } from '../net/tls/material.ts'
import {
  certificateFiles,
  filesOf,
  gather,
  type TlsRole,
  type TlsSource,
} from '../net/tls/source.ts'
import type { StorageError } from '../base/errors.ts'
import type * as config from './config.types.ts'
import { asksForCertificates, managementPlaces, managementsOf } from './management.ts'
import { step, type Problem } from './source.ts'
import { suggestion } from './suggest.ts'
import { childrenOf, elements, entries, type Loose, type Node, type Place } from './tree.ts'

/** The properties that name files of certificates. */
export const certificatePaths = [
  'certificates',
  'certificate',
  'key',
  'authority',
  'revoked',
] as const

/** The files of a credential that was checked, as a side of connections needs them. */
export function tlsSourceOf(credential: config.Credential, role: TlsRole): TlsSource {
  const { psk, user = null, minVersion } = credential
  return psk === undefined
    ? certificateFiles(credential, role, minVersion)
    : { kind: 'keys', keys: { path: psk, needed: true }, user, minVersion }
}

/** What a listener does about TLS, as a configuration that was checked has it. */
export function tlsModeOf({ tls, credentials }: Pick<config.Listener, 'tls' | 'credentials'>) {
  return tls ?? (credentials === undefined ? 'off' : 'required')
}

/** Checks credentials, and that those are there which others name. */
export function checkCredentials(loose: Loose, nodes: readonly Node[], problems: Problem[]): void {
  const { credentials, listeners } = loose
  const known = entries(credentials, '/credentials')
  for (const { value, pointer } of known) if (isObject(value)) checkKind(value, pointer, problems)
  const uses: Use[] = []
  for (const { value: listener, pointer } of elements(listeners, '/listeners'))
    if (isObject(listener)) {
      checkListener(listener, pointer, problems)
      uses.push({ name: listener['credentials'], pointer, needs: pairAndAuthority })
    }
  for (const { value, pointer } of managementPlaces(loose)) {
    const needs = asksForCertificates(value) ? pairAndAuthority : pair
    uses.push({ name: value['credentials'], pointer, needs })
  }
  for (const { device, pointer } of nodes) {
    checkRemote(device, pointer, problems)
    uses.push({ name: device['credentials'], pointer, needs: [] })
  }
  const names = known.map(({ label }) => label)
  for (const { name, pointer, needs } of uses) {
    if (typeof name !== 'string') continue
    const place = known.find(({ label }) => label === name)
    const found = place?.value
    if (!isObject(found)) {
      const what = `there is no credential "${name}"${suggestion(name, names)}`
      problems.push({ what, pointer: step(pointer, 'credentials') })
    } else checkUse(found, place!.pointer, needs, problems)
  }
}

/** Warns of listeners where TLS can be taken away on the way. */
export function warnOfTls({ listeners }: Loose): Problem[] {
  return elements(listeners, '/listeners').flatMap(({ value: listener, pointer }) => {
    if (!isObject(listener) || listener['tls'] !== 'allowed') return []
    const what = 'who is on the way can have clients go without TLS: only "required" keeps it'
    return [{ what, pointer: step(pointer, 'tls') }]
  })
}

/** A place where a credential is named. */
interface Use {
  readonly name: unknown
  readonly pointer: string
  /** The files that have to be named one by one, where there is no folder. */
  readonly needs: readonly string[]
}

const pair = ['certificate', 'key']
const pairAndAuthority = [...pair, 'authority']

function checkKind(credential: Loose, pointer: string, problems: Problem[]): void {
  const files = certificatePaths.filter((name) => credential[name] !== undefined)
  if (credential['psk'] !== undefined && files.length > 0)
    problems.push({ what: `"psk" and "${files[0]!}" are of two kinds: choose one`, pointer })
  else if (credential['psk'] === undefined && files.length === 0)
    problems.push({ what: 'no files are named: "certificates" or "psk"', pointer })
  if (credential['user'] !== undefined && credential['psk'] === undefined)
    problems.push({ what: '"user" is for keys ("psk")', pointer: step(pointer, 'user') })
}

function checkListener(listener: Loose, pointer: string, problems: Problem[]): void {
  const { tls, credentials, protocol } = listener
  if ((tls === 'allowed' || tls === 'required') && credentials === undefined)
    problems.push({ what: `TLS is ${tls}, but no "credentials" are named`, pointer })
  if (tls === 'off' && credentials !== undefined)
    problems.push({ what: 'TLS is off: leave "credentials" out', pointer: step(pointer, 'tls') })
  if (tls === 'allowed' && protocol === 'dst') {
    const what = 'DST/1 has TLS from the first byte, or not at all: off or required'
    problems.push({ what, pointer: step(pointer, 'tls') })
  }
}

/** Checks that a remote with TLS has what it needs for it, and from one place. */
function checkRemote(device: Loose, pointer: string, problems: Problem[]): void {
  const { type, uri: text, credentials } = device
  if ((type !== 'remote' && type !== 'nbd') || typeof text !== 'string') return
  const uri = parseUri(text)
  if (typeof uri === 'string') return
  const { tls, protocol } = uri
  const place = step(pointer, 'uri')
  const named = tls !== null && (tls.certificates ?? tls.psk ?? tls.user) !== null
  if (tls === null && credentials !== undefined) {
    const what = `"credentials" are for TLS, which begins with ${protocol}s://`
    problems.push({ what, pointer: place })
  } else if (named && credentials !== undefined) {
    const what = 'files or a user of TLS are named here and by "credentials": choose one place'
    problems.push({ what, pointer: place })
  } else if (protocol === 'dst' && tls !== null && !named && credentials === undefined) {
    const what = 'a target asks its clients who they are: "credentials" are missing'
    problems.push({ what, pointer: place })
  }
}

/** Checks that a credential has the files that are needed where it is named. */
function checkUse(
  found: Loose,
  pointer: string,
  needs: readonly string[],
  problems: Problem[],
): void {
  const lacks = (...names: readonly string[]): boolean =>
    names.every((name) => found[name] === undefined)
  if (!lacks('psk', 'certificates')) return
  for (const name of needs)
    if (lacks(name) && !problems.some((one) => one.pointer === step(pointer, name)))
      problems.push({ what: `the server needs "${name}" too`, pointer: step(pointer, name) })
}

/** Reads the files of all credentials in use, and says what is wrong with them. */
export function checkCredentialFiles(checked: config.Config): Problem[] {
  const seen = new Map<string, Problem>()
  const look = (name: unknown, role: TlsRole): void => {
    const credential = typeof name === 'string' ? checked.credentials[name] : undefined
    if (credential === undefined) return
    const source = tlsSourceOf(credential, role)
    try {
      materialOf(source, gather(filesOf(source)))
    } catch (error) {
      const what = (error as StorageError).message
      seen.set(what, { what, pointer: step('/credentials', name as string) })
    }
  }
  for (const { credentials } of [...checked.listeners, ...managementsOf(checked)])
    look(credentials, 'server')
  const lookBelow = ({ value }: Pick<Place, 'value'>): void => {
    if (!isObject(value)) return
    look(value['credentials'], 'client')
    for (const child of childrenOf(value, '')) lookBelow(child)
  }
  for (const value of Object.values(checked.devices)) lookBelow({ value })
  return [...seen.values()]
}
