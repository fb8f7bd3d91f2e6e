import { constants, type Stats } from 'node:fs'
import { open, stat, type FileHandle } from 'node:fs/promises'
import type { Clock, Timer } from '../base/clock.ts'
import { answerMs } from '../base/deadline.ts'
import { StorageError, systemError } from '../base/errors.ts'
import { MiB } from '../base/size.ts'

/** Bytes of lines that wait for a disk that is slow, full or gone; more are dropped and counted. */
const waitingBytesMax = 1 * MiB

/** Milliseconds after which a file that could not be written is tried again. */
const retryMs = 10_000

/** What every line begins with: a file that begins otherwise is something else. */
const firstByte = '{'.charCodeAt(0)

/** What its owner is told. */
export interface AuditFileUser {
  /** The file can be written again after `lost` lines were dropped, or it cannot for `problem`. */
  changed(problem: string, lost: number): void
}

/**
 * Appends lines to a file without making the caller wait: lines stay in memory, up to a limit,
 * while a write is under way. The file is opened again after it was moved or removed, so that
 * logrotate can rotate it.
 */
export class AuditFile {
  /** Why it cannot be written; '' when it can. */
  problem = ''
  /** How many lines were dropped so far. */
  lost = 0
  private readonly path: string
  private readonly mode: number
  private readonly clock: Clock
  private readonly user: AuditFileUser
  private handle: FileHandle | null = null
  private opened: Stats | null = null
  private lines: Buffer[] = []
  private bytes = 0
  /** True if the last write may have stopped in the middle of a line. */
  private torn = false
  private working: Promise<void> | null = null
  private retry: Timer | null = null
  private closed = false
  private told = 0

  constructor(path: string, mode: number, clock: Clock, user: AuditFileUser) {
    this.path = path
    this.mode = mode
    this.clock = clock
    this.user = user
  }

  /** Appends a line, with its end, some time later. */
  write(line: string): void {
    if (this.closed) return
    const bytes = Buffer.from(line)
    if (this.bytes + bytes.length > waitingBytesMax) this.lost++
    else {
      this.lines.push(bytes)
      this.bytes += bytes.length
    }
    if (this.retry === null) void this.start()
  }

  /** Looks at the file, and tries at once to write what waits. Resolves when that was tried. */
  look(): Promise<void> {
    this.retry?.cancel()
    this.retry = null
    return this.start()
  }

  /** Writes what waits, if that can be, and closes the file. */
  async close(): Promise<void> {
    // A write that is under way may have begun before the last line was added.
    await this.look()
    if (this.lines.length > 0) await this.look()
    this.closed = true
    this.retry?.cancel()
    this.retry = null
    await this.letGo()
  }

  private start(): Promise<void> {
    this.working ??= this.work().finally(() => (this.working = null))
    return this.working
  }

  private async work(): Promise<void> {
    try {
      do await this.writeWaiting()
      while (this.lines.length > 0)
    } catch (error) {
      await this.letGo()
      this.tell(systemError(error, this.path).message)
      if (!this.closed) this.retry ??= this.clock.timer(retryMs, () => void this.look())
    }
  }

  private async writeWaiting(): Promise<void> {
    const late = this.clock.timer(answerMs, () => this.tell(`${this.path} does not answer`))
    try {
      const handle = await this.present()
      if (this.lines.length > 0) await this.append(handle)
      this.tell('')
    } finally {
      late.cancel()
    }
  }

  private tell(problem: string): void {
    const changed = problem !== this.problem || (problem === '' && this.lost > this.told)
    if (!changed) return
    const lost = this.lost - this.told
    if (problem === '') this.told = this.lost
    this.problem = problem
    this.user.changed(problem, lost)
  }

  /** The file that is at the path now. */
  private async present(): Promise<FileHandle> {
    const { handle, opened } = this
    if (handle !== null && opened !== null) {
      const there = await stat(this.path).catch(() => null)
      if (there?.ino === opened.ino && there.dev === opened.dev) return handle
      await this.letGo()
    }
    this.handle = await this.open()
    this.opened = await this.handle.stat()
    await mustBeLog(this.handle, this.opened, this.path)
    this.torn = this.opened.size > 0 && (await lastByte(this.handle, this.opened.size)) !== 10
    return this.handle
  }

  private async open(): Promise<FileHandle> {
    // Without NONBLOCK, a pipe in its place would hold a thread until somebody reads.
    const flags = constants.O_RDWR | constants.O_APPEND | constants.O_NOFOLLOW
    const rest = constants.O_NONBLOCK | constants.O_NOCTTY
    try {
      return await open(this.path, flags | rest)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
    const made = await open(this.path, flags | rest | constants.O_CREAT | constants.O_EXCL, 0o600)
    await made.chmod(this.mode)
    return made
  }

  private async append(handle: FileHandle): Promise<void> {
    const { lines } = this
    this.lines = []
    let bytes = Buffer.concat(this.torn ? [Buffer.from('\n'), ...lines] : lines)
    let written = 0
    try {
      while (bytes.length > 0) {
        const { bytesWritten } = await handle.write(bytes)
        bytes = bytes.subarray(bytesWritten)
        written += bytesWritten
      }
      this.torn = false
    } catch (error) {
      // The file may be another one when it can be written again: whole lines are kept.
      const skipped = this.torn ? 1 : 0
      this.lines = [...linesAfter(lines, written - skipped), ...this.lines]
      throw error
    } finally {
      this.bytes = this.lines.reduce((sum, { length }) => sum + length, 0)
    }
  }

  private async letGo(): Promise<void> {
    const { handle } = this
    this.handle = null
    this.opened = null
    await handle?.close().catch(() => undefined)
  }
}

/** The lines without those of which all of the first `written` bytes are. */
function linesAfter(lines: readonly Buffer[], written: number): readonly Buffer[] {
  let left = written
  return lines.filter(({ length }) => {
    left -= length
    return left < 0
  })
}

/** Throws for what is no log: it may be an image, which lines would damage. */
async function mustBeLog(handle: FileHandle, stats: Stats, path: string): Promise<void> {
  if (!stats.isFile()) throw new StorageError('CONFIG', `${path} is no regular file`)
  if (stats.size === 0) return
  const { buffer } = await handle.read(Buffer.alloc(1), 0, 1, 0)
  if (buffer[0] !== firstByte)
    throw new StorageError('CONFIG', `${path} has something else in it than an audit log`)
}

async function lastByte(handle: FileHandle, size: number): Promise<number> {
  const { buffer } = await handle.read(Buffer.alloc(1), 0, 1, size - 1)
  return buffer[0]!
}
