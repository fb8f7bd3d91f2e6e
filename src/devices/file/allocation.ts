import type { ChildProcess } from 'node:child_process'
import fs from 'node:fs'
import type { StorageError } from '../../base/errors.ts'
import { startProgram } from '../../base/program.ts'
import { Ring } from '../../base/ring.ts'
import { extentHole, extentRunsMax, extentZero } from '../../device/extents.ts'
import type { Request } from '../../device/request.ts'

/** Times that a program may end by itself before the next one is used. */
const endingsMax = 3
/** Characters of the longest answer: a letter and a number of 16 digits for each run. */
const answerMax = extentRunsMax * 18

/**
 * Reads `FROM TO` and answers with one line, `24 h4096 d8192`: the blocks of 512 bytes that the
 * file takes, then holes and data, in order from FROM; or `!` and why the file system cannot tell.
 * The file is descriptor 3. SEEK_DATA is 3, SEEK_HOLE is 4, and ENXIO, 6, means that no data
 * follows. Unlike FIEMAP these see data that is still in the page cache alone.
 */
const perlScript = `
$| = 1; $SIG{INT} = $SIG{TERM} = $SIG{HUP} = 'IGNORE';
open(my $file, '<&=', 3) or die;
while (<STDIN>) {
  my ($at, $to) = split; my @runs = ((stat $file)[12]);
  while ($at < $to && @runs <= ${extentRunsMax}) {
    my $data = sysseek($file, $at, 3);
    if (!defined $data && $! + 0 != 6) { @runs = ("! $!"); last }
    $data = $to if !defined $data || $data > $to;
    push @runs, 'h' . ($data - $at) if $data > $at;
    $at = $data + 0; last if $at >= $to || @runs > ${extentRunsMax};
    my $hole = sysseek($file, $at, 4);
    $hole = $to if !defined $hole || $hole > $to;
    push @runs, 'd' . ($hole - $at) if $hole > $at;
    $at = $hole + 0;
  }
  print "@runs\\n";
}
`

/** Does the same as `perlScript`, for machines without Perl. */
const pythonScript = `
import os, signal, sys
for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(name, signal.SIG_IGN)
def seek(at, whence, to):
    try: return min(to, os.lseek(3, at, whence))
    except OSError as error:
        if error.errno == 6: return to
        raise
for line in sys.stdin:
    at, to = map(int, line.split()); runs = [str(os.fstat(3).st_blocks)]
    try:
        while at < to and len(runs) <= ${extentRunsMax}:
            data = seek(at, os.SEEK_DATA, to)
            if data > at: runs.append('h%d' % (data - at))
            at = data
            if at >= to or len(runs) > ${extentRunsMax}: break
            hole = seek(at, os.SEEK_HOLE, to)
            if hole > at: runs.append('d%d' % (hole - at))
            at = hole
    except OSError as error: runs = ['! ' + str(error)]
    print(' '.join(runs), flush=True)
`

/** Programs and their arguments; the first that starts is used. */
const programs = [
  ['perl', ['-e', perlScript]],
  ['python3', ['-c', pythonScript]],
] as const

/** The file that is asked about. */
export interface Source {
  /** The file's descriptor, used for `open` and `fstat` alone. */
  readonly fd: number
  /** True if this process has changed the file since it was opened. */
  readonly changed: () => boolean
  /** True if a client wanted zeroes somewhere in the file to stay allocated. */
  readonly keepsZeroes: () => boolean
  /** Bytes of the file. */
  readonly size: () => number
}

/**
 * Tells where a file has holes, which Node cannot ask: a child process asks the file system each
 * time, so that no stale answer is remembered here. Where no program starts or answers well, all of
 * the file counts as data.
 *
 * The child has a descriptor of its own, without the lock of the file.
 */
export class Allocation {
  private readonly source: Source
  private child: ChildProcess | null = null
  private readonly line = new Ring<Request>()
  private said: string[] = []
  private saidLength = 0
  private program = 0
  private endings = 0
  private closed: (() => void) | null = null
  /** Why holes cannot be told; '' while they can. */
  refusal = ''

  constructor(source: Source) {
    this.source = source
  }

  /** Answers a `status` request. */
  submit(request: Request): void {
    if (this.refusal !== '') {
      this.answerByBlocks(request)
      return
    }
    this.line.push(request)
    this.child ??= this.start()
    if (this.child !== null) this.ask(request)
  }

  /** Ends the child. Nothing is in flight. */
  async close(): Promise<void> {
    const { child } = this
    this.refusal = 'the file is closed'
    if (child === null) return
    await new Promise<void>((resolve) => {
      this.closed = resolve
      child.kill('SIGKILL')
    })
  }

  private ask({ offset, length }: Request): void {
    this.child!.stdin!.write(`${offset} ${offset + length}\n`)
  }

  private start(): ChildProcess | null {
    const [name, words] = programs[this.program]!
    let own: number
    try {
      own = fs.openSync(`/proc/self/fd/${this.source.fd}`, fs.constants.O_RDONLY)
    } catch {
      process.nextTick(() => {
        this.answerAll()
      })
      return null
    }
    const child = startProgram(name, words, { stdio: ['pipe', 'pipe', 'ignore', own] }, this.failed)
    fs.closeSync(own)
    if (child === null) return null
    child.stdout!.setEncoding('latin1')
    child.stdout!.on('data', this.heard)
    child.stdin!.on('error', () => undefined)
    child.on('close', () => {
      if (this.child === child) this.ended()
    })
    return child
  }

  /** The program did not start: try the next, or the same later if the machine was busy. */
  private readonly failed = (error: StorageError): void => {
    this.child = null
    if (this.closed !== null) this.closed()
    else if (error.code === 'BUSY') this.answerAll()
    else this.goOnWith(this.program + 1, 'neither perl nor python3 starts')
  }

  private readonly ended = (): void => {
    this.child = null
    this.said = []
    this.saidLength = 0
    if (this.closed !== null) this.closed()
    else if (++this.endings <= endingsMax) this.answerAll()
    else {
      this.endings = 0
      this.goOnWith(this.program + 1, 'the program that looks for holes ends again and again')
    }
  }

  /** Puts all open questions to the next program; `otherwise` is the refusal if there is none. */
  private goOnWith(program: number, otherwise: string): void {
    this.program = program
    if (program >= programs.length) {
      this.refusal = otherwise
      this.answerAll()
      return
    }
    if (this.line.length === 0) return
    this.child = this.start()
    if (this.child === null) return
    for (let count = this.line.length; count > 0; count--) {
      const request = this.line.shift()!
      this.line.push(request)
      this.ask(request)
    }
  }

  private readonly heard = (text: string): void => {
    let from = 0
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', from)) {
      this.said.push(text.slice(from, end))
      from = end + 1
      const answer = this.said.join('')
      this.said = []
      this.saidLength = 0
      const request = this.line.shift()
      if (request !== undefined) this.answer(request, answer)
    }
    this.said.push(text.slice(from))
    this.saidLength += text.length - from
    if (this.saidLength > answerMax) this.child?.kill('SIGKILL')
  }

  private answer(request: Request, text: string): void {
    if (text.startsWith('!')) {
      this.refusal = `the file system cannot tell:${text.slice(1)}`
      this.answerByBlocks(request)
      return
    }
    let left = request.length
    const [blocks, ...runs] = text.split(' ')
    // The file system also calls a hole what is allocated and not written to: it reads as zeroes.
    const sparse = Number(blocks) * 512 < this.source.size() && !this.source.keepsZeroes()
    const hole = sparse ? extentHole | extentZero : extentZero
    for (const run of runs) {
      const length = Math.min(left, Number(run.slice(1)))
      if (!(length > 0)) break
      request.extents.add(length, run.startsWith('h') ? hole : 0)
      left -= length
    }
    // An answer covers at least the beginning of the range.
    if (left === request.length) request.extents.add(request.length, 0)
    request.complete()
  }

  private answerAll(): void {
    for (let next = this.line.shift(); next !== undefined; next = this.line.shift())
      this.answerByBlocks(next)
  }

  /** Answers that all is data, unless the file has no block at all and was not written to. */
  private answerByBlocks(request: Request): void {
    if (this.source.changed()) {
      answerData(request)
      return
    }
    fs.fstat(this.source.fd, (cause, stats) => {
      if (cause !== null || stats.blocks > 0 || this.source.changed()) answerData(request)
      else isTrusted(this.source.fd, request)
    })
  }
}

/**
 * File systems that are known to count a block as soon as it is written to: ext2 to ext4, XFS,
 * tmpfs.
 */
const countingTypes: readonly number[] = [0xef53, 0x58465342, 0x01021994]

function isTrusted(fd: number, request: Request): void {
  fs.statfs(`/proc/self/fd/${fd}`, (cause, stats) => {
    const empty = cause === null && countingTypes.includes(stats.type)
    if (empty) request.extents.add(request.length, extentHole | extentZero)
    else request.extents.add(request.length, 0)
    request.complete()
  })
}

function answerData(request: Request): void {
  request.extents.add(request.length, 0)
  request.complete()
}
