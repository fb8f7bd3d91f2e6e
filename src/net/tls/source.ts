import fs from 'node:fs'
import { KiB } from '../../base/size.ts'

/** The oldest version of TLS that is spoken. */
export type TlsVersion = '1.2' | '1.3'

/** Which side of connections a credential is for: names of files and of purposes differ. */
export type TlsRole = 'server' | 'client'

/** A file that may have to be there. */
export interface TlsFile {
  readonly path: string
  readonly needed: boolean
}

/** A certificate with its key, and the authorities whose certificates are taken from peers. */
export interface CertificateSource {
  readonly kind: 'certificates'
  /** PEM: the certificate, then those between it and its authority. Null: none is shown. */
  readonly certificate: TlsFile | null
  readonly key: TlsFile | null
  /** PEM: certificates of authorities. Null: those that Node knows. */
  readonly authority: TlsFile | null
  /** PEM: lists of revoked certificates. Null: none. */
  readonly revoked: TlsFile | null
  readonly minVersion: TlsVersion
}

/** Keys that both sides know. */
export interface KeySource {
  readonly kind: 'keys'
  readonly keys: TlsFile
  /** The identity of a client; null: the only one of the file. */
  readonly user: string | null
  readonly minVersion: TlsVersion
}

/** The files of a credential. */
export type TlsSource = CertificateSource | KeySource

/** The part of a configuration that names files: those given win over those of the folder. */
export interface CertificatePlaces {
  readonly certificates?: string | undefined
  readonly certificate?: string | undefined
  readonly key?: string | undefined
  readonly authority?: string | undefined
  readonly revoked?: string | undefined
}

/**
 * The files of certificates. A folder has them under the names that qemu and libnbd look for; there
 * the list of revoked ones may be absent, and so may a client's own pair.
 */
export function certificateFiles(
  places: CertificatePlaces,
  role: TlsRole,
  minVersion: TlsVersion,
): CertificateSource {
  const { certificates: folder } = places
  const file = (given: string | undefined, name: string, needed: boolean): TlsFile | null => {
    if (given !== undefined) return { path: given, needed: true }
    return folder === undefined ? null : { path: `${folder}/${name}`, needed }
  }
  const own = role === 'server'
  return {
    kind: 'certificates',
    certificate: file(places.certificate, `${role}-cert.pem`, own),
    key: file(places.key, `${role}-key.pem`, own),
    authority: file(places.authority, 'ca-cert.pem', true),
    revoked: file(places.revoked, 'ca-crl.pem', false),
    minVersion,
  }
}

/** All files of a source. */
export function filesOf(source: TlsSource): readonly TlsFile[] {
  if (source.kind === 'keys') return [source.keys]
  const { certificate, key, authority, revoked } = source
  return [certificate, key, authority, revoked].filter((file) => file !== null)
}

/** The content of a file with its permissions, or a sentence; null when it is not there. */
export type Found = { readonly text: string; readonly mode: number } | string | null

/** Files as they were read, by path. */
export type Gathered = ReadonlyMap<string, Found>

/** Bytes of the longest file: the authorities that an operating system ships have 220 KiB. */
const fileBytesMax = 1024 * KiB

/** Reads files. Never throws. */
export function gather(files: readonly TlsFile[]): Gathered {
  return new Map(files.map(({ path }) => [path, read(path)]))
}

function read(path: string): Found {
  let fd: number | null = null
  try {
    // A pipe in the place of the file would be waited for.
    fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK)
    const stats = fs.fstatSync(fd)
    if (!stats.isFile()) return 'it is no file'
    if (stats.size > fileBytesMax) return `it has more than ${fileBytesMax / KiB} KiB`
    return { text: fs.readFileSync(fd, 'utf8'), mode: stats.mode }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    return code === 'ENOENT' ? null : message
  } finally {
    if (fd !== null) fs.closeSync(fd)
  }
}

/** A text that changes when one of the files does. Resolves in any case. */
export async function signatureOf(files: readonly TlsFile[]): Promise<string> {
  const parts = files.map(({ path }) => fs.promises.stat(path).then(marksOf, codeOf))
  return (await Promise.all(parts)).join('\n')
}

/** The same text at once. */
export function signatureNow(files: readonly TlsFile[]): string {
  const parts = files.map(({ path }) => {
    try {
      return marksOf(fs.statSync(path))
    } catch (error) {
      return codeOf(error)
    }
  })
  return parts.join('\n')
}

function marksOf({ ino, size, mtimeMs, ctimeMs }: fs.Stats): string {
  return [ino, size, mtimeMs, ctimeMs].join(' ')
}

function codeOf(error: unknown): string {
  return String((error as NodeJS.ErrnoException).code)
}
