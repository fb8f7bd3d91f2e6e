import type { ChildProcess } from 'node:child_process'
import { StorageError } from '../../base/errors.ts'
import { runProgram, startProgram } from '../../base/program.ts'
import { Ring } from '../../base/ring.ts'
import { KiB, MiB, roundUp } from '../../base/size.ts'
import { emulateWriteZeroes, type ZeroTarget } from '../../device/emulation.ts'
import { Flag, Operation, Request, type Completer } from '../../device/request.ts'
import { describeTransfer } from './task.ts'

/** Zeroes below this many bytes are written: that is quicker than starting a program. */
export const punchBytesMin = 256 * KiB
/** Neighbours in line are carried out together up to this many bytes. */
const mergedBytesMax = 1024 * MiB

/** Options of fallocate(1). */
type Way = 'punch-hole' | 'zero-range'

/**
 * Reads `WAY OFFSET LENGTH`, carries it out on the file of descriptor 3 and answers with one line,
 * until its input ends. A signal to all processes of the target does not stop what is under way.
 * Descriptor 4 is there to be inherited: our end of the pipe closes when the last process that has
 * it is gone.
 */
const script = `
trap '' INT TERM HUP
set -f
exec 4>&1
while read -r way offset length; do
  if said=$(fallocate --keep-size "--$way" --offset "$offset" --length "$length" \\
    /proc/self/fd/3 2>&1 </dev/null)
  then echo ok
  else echo $said
  fi
done
`

/** The program's messages are parsed, so they have to be in English. */
function environment(): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: 'C' }
}

/**
 * Resolves to why holes cannot be punched in a file, null when they can. Tries it beyond the end,
 * where there is nothing to lose. Rejects with BUSY when programs cannot be started now.
 */
export async function whyNoHoles(fd: number, size: number): Promise<string | null> {
  const beyond = roundUp(size, MiB) + MiB
  const words = ['--keep-size', '--punch-hole', '--offset', `${beyond}`, '--length', '4096']
  try {
    const { code, said } = await runProgram('fallocate', [...words, '/proc/self/fd/3'], {
      stdio: ['ignore', 'ignore', 'pipe', fd],
      env: environment(),
    })
    return code === 0 ? null : said.trim().split('\n')[0]!
  } catch (error) {
    if ((error as StorageError).code === 'BUSY') throw error
    return 'the program fallocate (of util-linux) does not start'
  }
}

/**
 * Punches holes in a file and zeroes ranges of it, which Node cannot. A child process does it, one
 * range after the other. It is started at the first need, for a fork holds up the event loop longer
 * the larger the process is.
 *
 * The child has our descriptor, and with it the lock of the file. So when the target is killed, no
 * other process can open the file for writing until the child has finished: a late hole hits
 * nothing new. For the same reason it gets one range at a time.
 *
 * The line has no bound here, because requests are admitted before they get here.
 */
export class Holes {
  private readonly file: ZeroTarget
  private readonly fd: number
  private readonly unable: () => void
  private child: ChildProcess | null = null
  private closed: (() => void) | null = null
  private said = ''
  private readonly line = new Ring<Request>()
  /** Requests that the child carries out now. */
  private running: Request[] = []
  private noZeroRange = false
  /** Why holes can no longer be punched; null while they can. */
  refusal: string | null = null
  /** Ranges that were handed to the child, and requests that joined another's. */
  readonly counts = { holesPunched: 0, holesMerged: 0 }

  /** `file` takes the writes and flushes. `unable` is called once, when `refusal` is set. */
  constructor(file: ZeroTarget, fd: number, unable: () => void) {
    this.file = file
    this.fd = fd
    this.unable = unable
  }

  /** Carries out a trim or writeZeroes. */
  submit(request: Request): void {
    const { operation, length } = request
    const zeroes = operation === Operation.writeZeroes
    if (zeroes && length < punchBytesMin) emulateWriteZeroes(this.file, request, this.file.facts!)
    else if (this.refusal !== null || (this.noZeroRange && wayOf(request) === 'zero-range'))
      this.doWithout(request)
    else {
      this.line.push(request)
      this.pump()
    }
  }

  /** Ends the child, and with it its hold on the file's lock. Nothing is in flight. */
  async close(): Promise<void> {
    const { child } = this
    if (child === null) return
    await new Promise<void>((resolve) => {
      this.closed = resolve
      child.kill('SIGKILL')
    })
  }

  private pump(): void {
    const { line, running } = this
    if (this.refusal !== null || running.length > 0) return
    const first = line.shift()
    if (first === undefined) return
    running.push(first)
    const way = wayOf(first)
    let length = first.length
    for (let next = line.peek(); next !== undefined; next = line.peek()) {
      if (wayOf(next) !== way || next.offset !== first.offset + length) break
      if (length + next.length > mergedBytesMax) break
      length += next.length
      running.push(line.shift()!)
      this.counts.holesMerged++
    }
    this.counts.holesPunched++
    this.child ??= this.start()
    this.child?.stdin!.write(`${way} ${first.offset} ${length}\n`)
  }

  /** Starts the child. Returns null when it does not start: `failed` is called later. */
  private start(): ChildProcess | null {
    const child = startProgram(
      'sh',
      ['-c', script],
      { stdio: ['pipe', 'pipe', 'ignore', this.fd], env: environment() },
      this.failed,
    )
    if (child === null) return null
    child.stdout!.on('data', this.heard)
    // The end of the child is handled below; an error of its pipe adds nothing.
    child.stdin!.on('error', () => undefined)
    // Emitted when the child has ended, and the programs that it started.
    child.on('close', () => {
      if (this.child === child) this.ended()
    })
    return child
  }

  /** The child did not start. Later requests try again if the machine was only busy. */
  private readonly failed = (error: StorageError): void => {
    this.child = null
    if (this.closed !== null) this.closed()
    else if (error.code !== 'BUSY') this.retire(error.message)
    else this.finish((request) => this.doWithout(request, error))
  }

  private readonly heard = (text: Buffer): void => {
    this.said += text.toString()
    const end = this.said.indexOf('\n')
    if (end < 0) return
    const answer = this.said.slice(0, end)
    this.said = this.said.slice(end + 1)
    if (answer === 'ok') this.finish((request) => this.succeed(request))
    else if (!/unsupported|not supported|not implemented|not found|unrecognized/.test(answer)) {
      const code = /No space|quota/i.test(answer) ? 'NO_SPACE' : 'IO'
      this.finish((request) => {
        const what = describeTransfer(request)
        request.fail(new StorageError(code, `${what}: ${answer}`, this.file.path))
      })
    } else if (wayOf(this.running[0]!) === 'zero-range') {
      this.noZeroRange = true
      this.finish((request) => this.doWithout(request))
    } else this.retire(answer)
  }

  private readonly ended = (): void => {
    this.child = null
    if (this.closed === null) this.retire('the program that punches holes has ended')
    else this.closed()
  }

  /** Gives up punching holes. No program is left that could punch one later. */
  private retire(reason: string): void {
    if (this.refusal === null) {
      this.refusal = reason
      this.unable()
    }
    this.finish((request) => this.doWithout(request))
    for (let next = this.line.shift(); next !== undefined; next = this.line.shift())
      this.doWithout(next)
  }

  private finish(end: (request: Request) => void): void {
    const { running } = this
    this.running = []
    for (const request of running) end(request)
    this.pump()
  }

  private succeed(request: Request): void {
    if ((request.flags & Flag.fua) === 0) {
      request.complete()
      return
    }
    this.file.driver.submit(flushBehind(request))
  }

  /** Writes zeroes instead, or fails the request: with `problem` if the child cannot start now. */
  private doWithout(request: Request, problem: StorageError | null = null): void {
    if (request.operation === Operation.writeZeroes && (request.flags & Flag.fastZero) === 0)
      emulateWriteZeroes(this.file, request, this.file.facts!)
    else {
      const why = problem?.message ?? this.refusal ?? noZeroRange
      const message = `${describeTransfer(request)}: ${why}`
      const code = problem?.code ?? 'UNSUPPORTED'
      request.fail(new StorageError(code, message, this.file.path, problem ?? undefined))
    }
  }
}

/** Makes a flush for a request that was carried out: the request ends as the flush does. */
export function flushBehind(request: Request): Request {
  const flush = Request.take(Operation.flush, 0, 0, 0, afterFlush)
  flush.context = request
  return flush
}

const afterFlush: Completer = {
  completed(flush) {
    const request = flush.context as Request
    const { error } = flush
    flush.release()
    if (error === null) request.complete()
    else request.fail(error)
  },
}

const noZeroRange = 'the file system cannot zero what stays allocated'

function wayOf({ operation, flags }: Request): Way {
  const keep = operation === Operation.writeZeroes && (flags & Flag.noHole) !== 0
  return keep ? 'zero-range' : 'punch-hole'
}
