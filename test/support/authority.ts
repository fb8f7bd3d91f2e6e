import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** What a certificate of a test says. */
export interface Subject {
  readonly commonName: string
  /** As openssl writes it: `DNS:localhost,IP:127.0.0.1,URI:dst:head/h1`. */
  readonly names?: string
  readonly purpose: 'server' | 'client'
  /** Days from now when it ends; below 0 it has ended. */
  readonly days?: number
}

const settings = `
[ca]
default_ca = own
[own]
dir = .
database = index.txt
new_certs_dir = .
certificate = ca-cert.pem
private_key = ca-key.pem
rand_serial = yes
unique_subject = no
default_md = sha256
default_days = 30
default_crl_days = 30
policy = any
copy_extensions = none
[any]
commonName = supplied
[req]
distinguished_name = none
[none]
`

/** An authority for tests, in a folder, by openssl. */
export class TestAuthority {
  readonly folder: string

  constructor(folder: string) {
    this.folder = folder
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'openssl.cnf'), settings)
    writeFileSync(join(folder, 'index.txt'), '')
    this.openssl(
      ...['req', '-x509', '-new', '-nodes', '-newkey', 'ec', '-pkeyopt', curve, '-days', '30'],
      ...['-subj', '/CN=test authority', '-keyout', 'ca-key.pem', '-out', 'ca-cert.pem'],
      ...['-addext', 'basicConstraints=critical,CA:TRUE'],
    )
  }

  /** Makes a folder with the pair under the name that clients and servers look for. */
  issue(folder: string, { commonName, names, purpose, days = 30 }: Subject): string {
    mkdirSync(folder, { recursive: true })
    const [key, request] = [join(folder, `${purpose}-key.pem`), join(folder, 'request.pem')]
    const certificate = join(folder, `${purpose}-cert.pem`)
    this.openssl(
      ...['req', '-new', '-nodes', '-newkey', 'ec', '-pkeyopt', curve, '-config', 'openssl.cnf'],
      ...['-subj', `/CN=${commonName}`, '-keyout', key, '-out', request],
    )
    const extensions = join(folder, 'extensions.cnf')
    writeFileSync(
      extensions,
      `extendedKeyUsage=${purpose}Auth\n${names === undefined ? '' : `subjectAltName=${names}\n`}`,
    )
    this.openssl(
      ...['ca', '-batch', '-notext', '-config', 'openssl.cnf', '-extfile', extensions],
      ...['-startdate', time(days - 60), '-enddate', time(days)],
      ...['-in', request, '-out', certificate],
    )
    copyFileSync(join(this.folder, 'ca-cert.pem'), join(folder, 'ca-cert.pem'))
    return folder
  }

  /** Revokes a certificate, and writes the list of all that are into a folder. */
  revoke(certificate: string | null, into: string): void {
    if (certificate !== null) this.openssl('ca', '-config', 'openssl.cnf', '-revoke', certificate)
    this.openssl('ca', '-config', 'openssl.cnf', '-gencrl', '-out', join(into, 'ca-crl.pem'))
  }

  private openssl(...args: readonly string[]): void {
    execFileSync('openssl', args, { cwd: this.folder, stdio: ['ignore', 'ignore', 'pipe'] })
  }
}

const curve = 'ec_paramgen_curve:prime256v1'

/** A time as openssl takes it: so many days from now. */
function time(days: number): string {
  const when = new Date(Date.now() + days * 24 * 3600 * 1000)
  return when.toISOString().replace(/[-:T]|\.\d+/g, '')
}

/** A folder with an authority, and a server's and a client's pair of it. */
export function makePki(folder: string): TestAuthority {
  const authority = new TestAuthority(join(folder, 'authority'))
  const names = 'DNS:localhost,IP:127.0.0.1,IP:::1'
  const pki = join(folder, 'pki')
  authority.issue(pki, { commonName: 'server', names, purpose: 'server' })
  authority.issue(pki, { commonName: 'client', names: 'URI:dst:head/h1', purpose: 'client' })
  return authority
}

/** Writes a file of keys as psktool does. Returns the keys. */
export function makeKeys(file: string, ...identities: readonly string[]): Map<string, Buffer> {
  const keys = new Map(identities.map((identity) => [identity, randomBytes(32)]))
  const lines = Array.from(keys, ([identity, key]) => `${identity}:${key.toString('hex')}\n`)
  writeFileSync(file, lines.join(''), { mode: 0o600 })
  return keys
}
