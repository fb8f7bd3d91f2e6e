import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { ConfigError, loadConfig, type Checked } from '../../src/config/config.ts'
import { parseAddress, formatAddress, whyNoAddress } from '../../src/net/address.ts'
import { parseKeys } from '../../src/net/tls/keys.ts'
import { formatUri, parseUri } from '../../src/net/uri.ts'
import type { Dice } from '../simulation/dice.ts'
import { mutatedBytes } from './mutate.ts'
import { mutatedText } from './state.ts'
import { must, type Surface, type Trial } from './trial.ts'

/** A configuration with something of everything. */
const whole = {
  listeners: [
    { protocol: 'dst', address: '127.0.0.1:4470' },
    { protocol: 'nbd', address: 'unix:data/nbd.sock', mode: '0660', exports: ['home'] },
  ],
  management: { address: 'unix:data/dst.sock' },
  limits: { connections: 100, payload: '8M', handshakeTimeout: '5s', bytesInFlight: '64M' },
  state: { directory: 'data/state' },
  files: { allow: ['data'] },
  devices: {
    disk: { type: 'file', path: 'data/left.img', size: '256M', create: true },
    sealed: { type: 'crypt', device: { type: 'memory', size: '64M' }, key: 'file:data/key' },
    far: { type: 'remote', uri: 'dst://10.0.0.2:4470/right', hold: '3s', connections: 2 },
    other: { type: 'nbd', uri: 'nbd://localhost/x?tls-verify-peer=0' },
    home: {
      type: 'mirror',
      legs: {
        left: 'disk',
        right: { type: 'linear', parts: [{ type: 'memory', size: '128M' }, 'far'] },
      },
      legTimeout: '7s',
    },
    slow: { type: 'delay', device: { type: 'error', device: 'other', every: 3 }, read: '5ms' },
  },
  exports: {
    home: { device: 'home', allow: [{ unix: true, may: ['read', 'write', 'list'] }] },
    slow: { device: 'slow', readOnly: true, description: 'for tests' },
  },
}

let folder = ''

function load(trial: Trial, text: string | Buffer): Checked | null {
  if (folder === '') folder = mkdtempSync(join(tmpdir(), 'dst-fuzz-config-'))
  const path = join(folder, 'config.json')
  writeFileSync(path, text)
  try {
    return trial.step(() => loadConfig(path, 'awaited'))
  } catch (error) {
    must(error instanceof ConfigError, `a configuration throws ${String(error)}`)
    must(error.lines.length > 0 && error.lines.every((line) => line !== ''), 'it has no reason')
    return null
  }
}

/** What is accepted once is accepted again, and is the same. */
function configuration(trial: Trial): void {
  const text = mutatedText(whole, trial.dice)
  trial.bytes += Buffer.byteLength(text)
  const read = load(trial, text)
  if (read === null) return
  const again = load(trial, JSON.stringify(read.config))
  must(again !== null, 'what was accepted is refused with its defaults')
  must(isDeepStrictEqual(again.config, read.config), 'it is another one when it is read again')
}

const uris = [
  'dst://10.0.0.2:4470/right',
  'dsts://alice@[::1]:4470/a%20b?tls-psk-file=/etc/keys&tls-username=alice',
  'nbds+unix:///x?socket=/run/nbd.sock&tls-certificates=/etc/pki&tls-verify-peer=0',
  'nbd://localhost',
]
const addresses = ['127.0.0.1:4470', '[::1]:1', 'unix:/run/x.sock', 'host-1.example.org:65535']

/** Texts that programs and people give; what is accepted means the same when it is written. */
function texts(trial: Trial): void {
  const { dice } = trial
  const uriText = mutatedLine(dice.pick(uris), dice)
  const addressText = mutatedLine(dice.pick(addresses), dice)
  const keysText = mutatedLine(
    `alice:${'ab'.repeat(16)}\n#c3a4:${'cd'.repeat(20)}\n# no key\n`,
    dice,
  )
  trial.bytes += uriText.length + addressText.length + keysText.length
  const uri = trial.step(() => parseUri(uriText))
  if (typeof uri !== 'string')
    must(isDeepStrictEqual(parseUri(formatUri(uri)), uri), `${uriText} is another one when written`)
  const address = trial.step(() => parseAddress(addressText, 1))
  if (address === null) must(trial.step(() => whyNoAddress(addressText)) !== '', 'it has no reason')
  else {
    const again = parseAddress(formatAddress(address))
    must(isDeepStrictEqual(again, address), `${addressText} is another one when written`)
  }
  const keys = trial.step(() => parseKeys(keysText))
  if (typeof keys !== 'string')
    for (const key of keys.values()) must(key.length >= 16, 'a key is too short')
}

function mutatedLine(text: string, dice: Dice): string {
  return mutatedBytes({ bytes: Buffer.from(text) }, dice).toString('utf8')
}

/** Configurations, and the texts in them. */
export const config: Surface = {
  name: 'config',
  weight: 1,
  run(trial: Trial): Promise<void> {
    if (trial.dice.chance(0.6)) configuration(trial)
    else texts(trial)
    return Promise.resolve()
  },
  close(): Promise<void> {
    if (folder !== '') rmSync(folder, { recursive: true })
    folder = ''
    return Promise.resolve()
  },
}
