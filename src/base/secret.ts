import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import type { Clock } from './clock.ts'
import { StorageError, systemError } from './errors.ts'
import { startProgram } from './program.ts'

/** The place that a secret is read from; never the secret itself. */
export type SecretSource =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'credential'; readonly name: string }
  | { readonly kind: 'command'; readonly words: readonly string[] }

/** Bytes of the longest secret: more is some other file. */
export const secretBytesMax = 1024 * 1024

/** Milliseconds that a command has to print a secret: it may ask a person or a server. */
const commandMsMax = 120_000

const forms = '"file:PATH", "credential:NAME" or "command:PROGRAM WORDS"'

/** Parses `file:PATH`, `credential:NAME` or `command:PROGRAM WORDS`. Returns why it is none. */
export function parseSecretSource(text: string): SecretSource | string {
  const [, kind, rest = ''] = /^(file|credential|command):(.*)$/s.exec(text) ?? []
  if (kind === undefined) return `a key comes from ${forms}`
  if (rest.includes('\0')) return 'a zero byte is in it'
  if (kind === 'file') return rest === '' ? 'the path is missing' : { kind, path: rest }
  if (kind === 'credential') {
    const isName = /^[\w.-]{1,255}$/.test(rest) && rest !== '.' && rest !== '..'
    return isName ? { kind, name: rest } : `"${rest}" is no name of a credential`
  }
  const words = rest.split(' ').filter((word) => word !== '')
  if (words.length === 0) return 'the program is missing'
  return isAbsolute(words[0]!) ? { kind: 'command', words } : `"${words[0]!}" is no absolute path`
}

/**
 * Reads a secret: all bytes, a line feed at the end included. The caller overwrites them after use.
 * Rejects with UNAVAILABLE while there is none, and with CONFIG where others could read the file,
 * or where the secret is too long or empty. With `signal` a program is ended when it is aborted.
 */
export async function readSecret(
  source: SecretSource,
  clock: Clock,
  signal?: AbortSignal,
): Promise<Buffer> {
  const secret = await (source.kind === 'command'
    ? printed(source.words, clock, signal)
    : fileContent(source))
  if (secret.length > 0) return secret
  throw new StorageError('CONFIG', `the key is empty (${describeSource(source)})`)
}

/** Names the place of a secret for a person: a command without its words. */
export function describeSource(source: SecretSource): string {
  if (source.kind === 'file') return source.path
  return source.kind === 'credential' ? `credential ${source.name}` : source.words[0]!
}

async function fileContent(
  source: Exclude<SecretSource, { readonly kind: 'command' }>,
): Promise<Buffer> {
  const path = pathOf(source)
  let file: FileHandle
  try {
    // The open does not wait: a pipe without a writer would keep a thread for ever.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
  } catch (error) {
    throw unavailable(`the key ${path} cannot be read`, error)
  }
  try {
    const stats = await file.stat()
    if (!stats.isFile()) throw new StorageError('CONFIG', `the key ${path} is no regular file`)
    // The service manager keeps credentials from others, and may show a mode that says less.
    if (source.kind === 'file' && (stats.mode & 0o077) !== 0)
      throw new StorageError('CONFIG', `others may use the key ${path}: chmod 600`)
    return await content(file, path)
  } catch (error) {
    throw error instanceof StorageError ? error : unavailable(`the key ${path}`, error)
  } finally {
    await file.close()
  }
}

async function content(file: FileHandle, path: string): Promise<Buffer> {
  const bytes = Buffer.alloc(secretBytesMax + 1)
  try {
    let length = 0
    while (length < bytes.length) {
      const { bytesRead } = await file.read(bytes, length, bytes.length - length, length)
      if (bytesRead === 0) break
      length += bytesRead
    }
    if (length > secretBytesMax) throw tooLong(path)
    return Buffer.from(bytes.subarray(0, length))
  } finally {
    bytes.fill(0)
  }
}

function pathOf(source: Exclude<SecretSource, { readonly kind: 'command' }>): string {
  if (source.kind === 'file') return source.path
  const folder = process.env['CREDENTIALS_DIRECTORY']
  if (folder !== undefined && folder !== '') return join(folder, source.name)
  throw new StorageError(
    'UNAVAILABLE',
    `there is no credential ${source.name}: the service manager has handed over none`,
  )
}

/** Starts a program without a shell, and resolves to all that it prints. */
function printed(
  [program = '', ...words]: readonly string[],
  clock: Clock,
  signal?: AbortSignal,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = []
    let length = 0
    const end = (error: StorageError | null): void => {
      timer.cancel()
      signal?.removeEventListener('abort', abort)
      if (error === null) resolve(Buffer.concat(pieces))
      else reject(error)
      for (const piece of pieces) piece.fill(0)
      pieces.length = 0
    }
    const child = startProgram(program, words, { stdio: ['ignore', 'pipe', 'ignore'] }, end)
    const giveUp = (error: StorageError): void => {
      end(error)
      child?.kill('SIGKILL')
    }
    const abort = (): void => {
      giveUp(new StorageError('SHUTDOWN', `${program} is not waited for any more`))
    }
    const timer = clock.timer(commandMsMax, () => {
      giveUp(new StorageError('TIMEOUT', `${program} prints no key in ${commandMsMax / 1000} s`))
    })
    if (signal?.aborted === true) abort()
    else signal?.addEventListener('abort', abort)
    child?.stdout!.on('data', (piece: Buffer) => {
      length += piece.length
      if (length <= secretBytesMax) pieces.push(piece)
      else child.kill('SIGKILL')
    })
    child?.on('close', (code) => {
      if (length > secretBytesMax) end(tooLong(program))
      else if (code === 0) end(null)
      else end(new StorageError('UNAVAILABLE', `${program} prints no key: it ends with ${code}`))
    })
  })
}

function unavailable(what: string, cause: unknown): StorageError {
  return new StorageError('UNAVAILABLE', systemError(cause, what).message, '', cause)
}

function tooLong(what: string): StorageError {
  return new StorageError('CONFIG', `the key of ${what} has more than ${secretBytesMax} bytes`)
}
