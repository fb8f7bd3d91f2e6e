import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, copyFile, rm, writeFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join, resolve } from 'node:path'
import { StorageError } from '../base/errors.ts'
import { makeFolder } from '../base/folders.ts'
import { runProgram } from '../base/program.ts'

/** What a pair of a certificate and a key is for. */
export interface PairOf {
  readonly purpose: 'server' | 'client'
  /** The common name: what rules call a client. */
  readonly name: string
  /** Names and IP addresses of a server. */
  readonly hosts: readonly string[]
  readonly days: number
}

/** Days for which an authority is good: its end ends everything. */
const authorityDays = 3650

/** Keys of 128 bits' strength, which every TLS 1.3 has. */
const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']

/** Nothing comes from the configuration of the machine, which may ask for more. */
const settings = `[req]
distinguished_name = name
x509_extensions = authority
[name]
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
`

/** Files that exist for a moment beside the others. */
const requestFile = '.request.pem'
const settingsFile = '.openssl.cnf'

/**
 * Makes an authority in a folder: `ca-cert.pem` and `ca-key.pem`. Rejects with CONFIG where one is
 * there already: its certificates would be worth nothing.
 */
export async function makeAuthority(folder: string, name: string): Promise<void> {
  await makeFolder(folder, 0o700)
  mustNotBeThere(folder, 'ca-key.pem', 'ca-cert.pem')
  await withSettings(folder, settings, () =>
    openssl(folder, [
      ...['req', '-x509', '-new', ...newKey, '-config', settingsFile, '-sha256'],
      ...['-days', String(authorityDays), '-subj', `/CN=${name}`],
      ...['-keyout', 'ca-key.pem', '-out', 'ca-cert.pem'],
    ]),
  )
  await secure(folder, 'ca')
}

/**
 * Makes a pair of the authority in `from`, in the folder `to`, beside the authority's certificate.
 * Rejects with CONFIG where there is a pair for the same purpose.
 */
export async function makePair(from: string, to: string, pair: PairOf): Promise<void> {
  const { purpose, name, hosts, days } = pair
  for (const file of ['ca-cert.pem', 'ca-key.pem'])
    if (!existsSync(join(from, file)))
      throw new StorageError('CONFIG', `there is no authority: ${join(from, file)} is missing`)
  await makeFolder(to, 0o700)
  const [key, certificate] = [`${purpose}-key.pem`, `${purpose}-cert.pem`]
  mustNotBeThere(to, key, certificate)
  const names = hosts.map((host) => (isIP(host) === 0 ? `DNS:${host}` : `IP:${host}`))
  const extensions = [
    'basicConstraints = critical, CA:FALSE',
    'keyUsage = critical, digitalSignature',
    `extendedKeyUsage = ${purpose}Auth`,
    ...(names.length === 0 ? [] : [`subjectAltName = ${names.join(', ')}`]),
  ]
  await withSettings(to, `${settings}[pair]\n${extensions.join('\n')}\n`, async () => {
    await openssl(to, [
      ...['req', '-new', ...newKey, '-config', settingsFile, '-subj', `/CN=${name}`],
      ...['-keyout', key, '-out', requestFile],
    ])
    await openssl(to, [
      ...['x509', '-req', '-in', requestFile, '-out', certificate, '-sha256'],
      ...['-CA', resolve(from, 'ca-cert.pem'), '-CAkey', resolve(from, 'ca-key.pem')],
      ...['-set_serial', `0x01${randomBytes(15).toString('hex')}`, '-days', String(days)],
      ...['-extfile', settingsFile, '-extensions', 'pair'],
    ])
  })
  await secure(to, purpose)
  if (resolve(from) !== resolve(to)) {
    await copyFile(join(from, 'ca-cert.pem'), join(to, 'ca-cert.pem'))
    await chmod(join(to, 'ca-cert.pem'), 0o644)
  }
}

function mustNotBeThere(folder: string, ...files: readonly string[]): void {
  for (const file of files)
    if (existsSync(join(folder, file)))
      throw new StorageError(
        'CONFIG',
        `${join(folder, file)} is there already, and is not replaced`,
      )
}

async function withSettings(folder: string, text: string, work: () => Promise<void>) {
  try {
    await writeFile(join(folder, settingsFile), text, { mode: 0o600 })
    await work()
  } finally {
    for (const file of [settingsFile, requestFile]) await rm(join(folder, file), { force: true })
  }
}

/** Sets the modes, whatever the umask is: the key is for its owner alone. */
async function secure(folder: string, what: string): Promise<void> {
  await chmod(join(folder, `${what}-key.pem`), 0o600)
  await chmod(join(folder, `${what}-cert.pem`), 0o644)
}

/** Runs openssl in a folder. Rejects with the last line of its error output. */
async function openssl(folder: string, words: readonly string[]): Promise<void> {
  const fail = (why: string): never => {
    throw new StorageError('IO', `openssl: ${why}`)
  }
  const missing = 'it does not start; "apt-get install openssl" installs it'
  const { code, said } = await runProgram('openssl', words, {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'pipe'],
  }).catch((error: unknown) => fail(`${missing} (${(error as Error).message})`))
  if (code !== 0) fail(said.trim().split('\n').at(-1) ?? `exit code ${code ?? 'none'}`)
}
