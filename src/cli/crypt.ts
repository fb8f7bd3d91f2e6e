import type { Argv } from 'yargs'
import { systemClock } from '../base/clock.ts'
import { StorageError } from '../base/errors.ts'
import { parseSecretSource, readSecret } from '../base/secret.ts'
import { describeSize, MiB } from '../base/size.ts'
import { formatDevice, mustBeBlank } from '../devices/crypt/format.ts'
import type { Keyslot } from '../devices/crypt/header.ts'
import { addKeyslot, defaultArgon2, defaultPbkdf2, type NewKdf } from '../devices/crypt/keyslots.ts'
import { removeKeyslot, slotNumbers } from '../devices/crypt/keyslots.ts'
import { headerError, loadHeader, type Stored } from '../devices/crypt/store.ts'
import { unlock } from '../devices/crypt/unlock.ts'
import { isFault } from '../devices/crypt/header.ts'
import { backUp } from './crypt-backup.ts'
import { withPlace, type Tools } from './crypt-place.ts'
import { Exit, UsageError } from './exit.ts'
import { exitCodes, flag, optional, required, sizeOf } from './options.ts'
import { printLine, printWarning } from './print.ts'

const keyForms = 'file:PATH, credential:NAME or command:PROGRAM WORDS'

/** Adds `dst crypt`: makes encrypted devices and changes their keys. */
export function crypt(yargs: Argv): Argv {
  return yargs.command(
    'crypt <command>',
    'make encrypted devices, and add, remove and check their keys',
    (commands) =>
      [format, addKey, removeKey, headerBackup, check]
        .reduce<Argv>((all, define) => define(all), commands)
        .demandCommand(1, 'a command is missing; dst crypt --help lists them')
        .example('dst crypt format disk.img --size 10G --key file:disk.key', 'a new one')
        .example('dst crypt check disk.img --key file:disk.key', 'does the key open it?')
        .epilogue(exitCodes),
  )
}

/** Adds what every command has. */
function onPlace(options: Argv) {
  return options
    .positional(
      'place',
      required('the file or disk, or the URI of an export, that has the ciphertext'),
    )
    .epilogue(exitCodes)
}

const kdfOptions = {
  kdf: {
    choices: ['argon2id', 'pbkdf2'] as const,
    describe: 'how the key is derived (argon2id; luks1 knows pbkdf2 alone)',
  },
  memory: optional('memory of argon2id, such as 64M (256M)'),
  iterations: {
    type: 'number',
    describe: 'passes of argon2id (4), iterations of pbkdf2 (2000000)',
  },
} as const

interface KdfOptions {
  readonly kdf: 'argon2id' | 'pbkdf2' | undefined
  readonly memory: string | undefined
  readonly iterations: number | undefined
}

function format(yargs: Argv): Argv {
  return yargs.command(
    'format <place>',
    'make an encrypted device; what is there is lost',
    (options) =>
      onPlace(options)
        .option('key', required(`the first key: ${keyForms}`))
        .option('format', { choices: ['luks2', 'luks1'] as const, default: 'luks2' as const })
        .option('sector-size', {
          choices: [512, 4096] as const,
          describe: 'bytes that are encrypted as one (4096; 512 for luks1)',
        })
        .options(kdfOptions)
        .option('size', optional('make a file of this size, such as 10G'))
        .option('force', flag('drop what is there'))
        .example('dst crypt format disk.img --size 10G --key file:disk.key', 'a new file')
        .example('dst crypt format /dev/sdb --key credential:disk', 'a disk'),
    async ({ place, key, format: version, sectorSize, size, force, ...kdf }) => {
      const sectorBytes = sectorSize ?? (version === 'luks1' ? 512 : 4096)
      if (version === 'luks1' && sectorBytes !== 512)
        throw new UsageError('luks1 has sectors of 512 bytes')
      if (size !== undefined && place.includes('://'))
        throw new UsageError('--size is for a file that is made')
      const how = kdfOf(kdf, version)
      const bytes = size === undefined ? null : sizeOf('--size', size)
      const passphrase = await secretOf('--key', key)
      await withPlace(place, { use: 'change', size: bytes }, async (tools) => {
        if (!force) await mustBeBlank(tools.medium)
        const device = { format: version, sectorBytes, kdf: how, passphrase }
        const { uuid } = await formatDevice(tools, device)
        printLine(`${place}: ${version} ${uuid}, ${describeSize(tools.medium.size)}`)
      })
    },
  )
}

function addKey(yargs: Argv): Argv {
  return yargs.command(
    'add-key <place>',
    'let one more key open the device',
    (options) =>
      onPlace(options)
        .option('key', required(`a key that opens it now: ${keyForms}`))
        .option('new-key', required('the new key'))
        .options(kdfOptions)
        .example('dst crypt add-key disk.img --key file:disk.key --new-key file:new.key', ''),
    async ({ place, key, newKey, ...kdf }) => {
      const [passphrase, added] = [
        await secretOf('--key', key),
        await secretOf('--new-key', newKey),
      ]
      await withPlace(place, { use: 'change' }, async (tools) => {
        const stored = await headerOf(tools)
        const how = kdfOf(kdf, stored.format)
        const opened = await mustUnlock(tools, stored, passphrase, {})
        const secrets = { passphrase: added, key: opened.key }
        const slot = await addKeyslot(tools, stored, how, secrets)
        opened.key.fill(0)
        printLine(`${place}: keyslot ${slot} has the new key`)
      })
    },
  )
}

function removeKey(yargs: Argv): Argv {
  return yargs.command(
    'remove-key <place>',
    'let a key open the device no more',
    (options) =>
      onPlace(options)
        .option('key', required(`a key that stays: ${keyForms}`))
        .option('old-key', optional('the key to be removed'))
        .option('slot', { type: 'number', describe: 'or the number of its keyslot' })
        .example('dst crypt remove-key disk.img --key file:new.key --old-key file:disk.key', ''),
    async ({ place, key, oldKey, slot }) => {
      if ((oldKey === undefined) === (slot === undefined))
        throw new UsageError('name the key by --old-key, or its keyslot by --slot')
      const passphrase = await secretOf('--key', key)
      const old = oldKey === undefined ? null : await secretOf('--old-key', oldKey)
      await withPlace(place, { use: 'change' }, async (tools) => {
        const stored = await headerOf(tools)
        const id = old === null ? slot! : (await mustUnlock(tools, stored, old, {})).slot
        if (!slotNumbers(stored).includes(id))
          throw new StorageError('INVALID', `there is no keyslot ${id}`)
        // What stays has to be known to open the device before anything else is dropped.
        const opened = await mustUnlock(tools, stored, passphrase, { except: id })
        opened.key.fill(0)
        await removeKeyslot(tools, stored, id)
        printLine(`${place}: keyslot ${id} is gone; keyslot ${opened.slot} opens the device`)
      })
    },
  )
}

function headerBackup(yargs: Argv): Argv {
  return yargs.command(
    'header-backup <place> <file>',
    'copy the header with its keyslots to a new file: without it all data are lost',
    (options) =>
      onPlace(options)
        .positional('file', required('the new file'))
        .example('dst crypt header-backup disk.img disk.header', 'keep it elsewhere')
        .epilogue('A key that is removed later still opens the device with the copy.'),
    async ({ place, file }) => {
      await withPlace(place, { use: 'look' }, async (tools) => {
        const stored = await headerOf(tools)
        const bytes = await backUp(tools.medium, stored, file)
        printLine(`${file}: ${describeSize(bytes)} of ${stored.header.uuid}`)
      })
    },
  )
}

function check(yargs: Argv): Argv {
  return yargs.command(
    'check <place>',
    'show the header, and which keyslot a key opens; changes nothing',
    (options) =>
      onPlace(options)
        .option('key', optional(`a key to be tried: ${keyForms}`))
        .example('dst crypt check disk.img', 'the header alone')
        .epilogue('Exit codes: 0 all is well, 1 damaged or not opened, 2 wrong usage.'),
    async ({ place, key }) => {
      const passphrase = key === undefined ? null : await secretOf('--key', key)
      await withPlace(place, { use: 'look' }, async (tools) => {
        const stored = await headerOf(tools)
        show(place, stored)
        if (stored.problems.length > 0) process.exitCode = Exit.failed
        if (passphrase === null) return
        const opened = await mustUnlock(tools, stored, passphrase, {})
        opened.key.fill(0)
        printLine(`the key opens keyslot ${opened.slot}`)
      })
    },
  )
}

function show(place: string, stored: Stored): void {
  const { header, problems } = stored
  const { format: version, uuid, keyBytes, sectorBytes, payload, keyslots } = header
  printLine(`${place}: ${version} ${uuid}`)
  const cipher = `aes-${keyBytes * 4}-xts`
  printLine(`  ${cipher}, sectors of ${sectorBytes} bytes, data from byte ${payload}`)
  for (const slot of keyslots) printLine(`  keyslot ${slot.id}: ${describeKdf(slot)}`)
  const known = keyslots.map(({ id }) => id)
  for (const id of slotNumbers(stored))
    if (!known.includes(id)) printLine(`  keyslot ${id}: of a kind that is not known here`)
  for (const problem of problems) printWarning(problem)
}

function describeKdf({ kdf }: Keyslot): string {
  if (kdf.kind === 'pbkdf2') return `pbkdf2 of ${kdf.hash}, ${kdf.iterations} iterations`
  return `${kdf.kind}, ${kdf.passes} passes over ${describeSize(kdf.memory)}`
}

async function headerOf({ medium }: Tools): Promise<Stored> {
  const stored = await loadHeader(medium)
  if (isFault(stored)) throw headerError(stored, medium.device.path)
  return stored
}

async function mustUnlock(
  { medium, deriver }: Tools,
  stored: Stored,
  passphrase: Buffer,
  choice: { readonly except?: number },
) {
  const opened = await unlock(medium, stored, { passphrase, deriver }, choice)
  if (opened !== null) return opened
  const others = choice.except === undefined ? 'no keyslot' : `no keyslot but ${choice.except}`
  throw new StorageError('INVALID', `the key opens ${others}`, medium.device.path)
}

/** Reads a key from its place. Warns of a key that is probably a mistake. */
async function secretOf(option: string, text: string): Promise<Buffer> {
  const source = parseSecretSource(text)
  if (typeof source === 'string') throw new UsageError(`${option}: ${source}`)
  const secret = await readSecret(source, systemClock)
  if (secret.at(-1) === 0x0a)
    printWarning(`${option}: a line feed is the last byte of the key, and part of it`)
  return secret
}

function kdfOf({ kdf, memory, iterations }: KdfOptions, format: 'luks1' | 'luks2'): NewKdf {
  const kind = kdf ?? (format === 'luks1' ? 'pbkdf2' : 'argon2id')
  if (format === 'luks1' && kind !== 'pbkdf2')
    throw new UsageError('luks1 derives keys by pbkdf2 alone')
  if (iterations !== undefined && !(Number.isSafeInteger(iterations) && iterations > 0))
    throw new UsageError('--iterations is a number above 0')
  if (kind === 'pbkdf2') {
    if (memory !== undefined) throw new UsageError('pbkdf2 needs no --memory')
    return { ...defaultPbkdf2, ...(iterations === undefined ? {} : { iterations }) }
  }
  const bytes = memory === undefined ? {} : { memory: sizeOf('--memory', memory) }
  if (bytes.memory !== undefined && (bytes.memory < MiB || bytes.memory % 1024 !== 0))
    throw new UsageError('--memory is 1M or more, in whole KiB')
  return { ...defaultArgon2, ...(iterations === undefined ? {} : { passes: iterations }), ...bytes }
}
