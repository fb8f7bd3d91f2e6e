/**
 * Ways to read and write a file from one event loop, side by side: what `src/device/files` rests
 * on. Run
 * `node dist/bench/files.js [FOLDER [WORK]]`; with root's rights it also measures a cold cache.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { systemClock } from '../src/base/clock.ts'
import { SeededRandom } from '../src/base/random.ts'
import { GiB, KiB, MiB } from '../src/base/size.ts'
import { Slab } from '../src/base/slab.ts'
import { Device } from '../src/device/device.ts'
import { FileDriver } from '../src/device/file.ts'
import { Operation, Request, type Completer } from '../src/device/request.ts'
import { cleanUp, cleanUpAtEnd, trackFolder } from './cleanup.ts'

const fileBytes = 256 * MiB
const seconds = 1.5

interface Work {
  readonly operation: 'read' | 'write'
  readonly length: number
  readonly depth: number
  readonly random: boolean
}

/** One way to do it. Calls `done`, with the slot, once per transfer. */
interface Way {
  readonly name: string
  start(work: Work, offset: number, slot: number, done: (slot: number) => void): void
  /** Called after a burst was started. */
  kick?(): void
  close(): unknown
}

interface Figures {
  readonly microseconds: number
  readonly cpuMicroseconds: number
  readonly delayMs: number
}

/** Transfers in bursts, one burst a turn of the loop, as requests come out of sockets. */
async function measure(way: Way, work: Work): Promise<Figures> {
  const random = new SeededRandom(7)
  const places = fileBytes / work.length
  const delay = monitorEventLoopDelay({ resolution: 1 })
  let next = 0
  let operations = 0
  delay.enable()
  const cpu = process.cpuUsage()
  const began = performance.now()
  const end = began + seconds * 1000
  await new Promise<void>((resolve) => {
    const free = Array.from({ length: work.depth }, (_, slot) => slot)
    let scheduled = false
    const schedule = (): void => {
      if (!scheduled) setImmediate(burst)
      scheduled = true
    }
    const done = (slot: number): void => {
      operations++
      free.push(slot)
      schedule()
    }
    const burst = (): void => {
      scheduled = false
      if (performance.now() > end) {
        if (free.length === work.depth) resolve()
        return
      }
      for (let count = free.length; count > 0; count--) {
        const place = work.random ? random.below(places) : next++ % places
        way.start(work, place * work.length, free.shift()!, done)
      }
      way.kick?.()
    }
    schedule()
  })
  const used = process.cpuUsage(cpu)
  const took = performance.now() - began
  delay.disable()
  return {
    microseconds: (took * 1000) / operations,
    cpuMicroseconds: (used.user + used.system) / operations,
    delayMs: delay.percentile(99.9) / 1e6,
  }
}

/** A buffer for each slot. */
function buffersOf(shared = false): Buffer[] {
  return Array.from({ length: 32 }, () =>
    shared ? Buffer.from(new SharedArrayBuffer(MiB)) : new Slab().take(MiB).bytes,
  )
}

/** Every transfer by itself to Node's thread pool. */
function byPool(file: string): Way {
  const fd = fs.openSync(file, 'r+')
  const buffers = buffersOf()
  return {
    name: 'thread pool, one by one',
    start(work, offset, slot, done) {
      const over = (error: Error | null): void => {
        if (error !== null) throw error
        done(slot)
      }
      if (work.operation === 'read') fs.read(fd, buffers[slot]!, 0, work.length, offset, over)
      else fs.write(fd, buffers[slot]!, 0, work.length, offset, over)
    },
    close() {
      fs.closeSync(fd)
    },
  }
}

/** On the loop's own thread. */
function bySync(file: string): Way {
  const fd = fs.openSync(file, 'r+')
  const buffers = buffersOf()
  return {
    name: 'on the loop',
    start(work, offset, slot, done) {
      if (work.operation === 'read') fs.readSync(fd, buffers[slot]!, 0, work.length, offset)
      else fs.writeSync(fd, buffers[slot]!, 0, work.length, offset)
      done(slot)
    },
    close() {
      fs.closeSync(fd)
    },
  }
}

/** Whole bursts to one worker over shared memory: a futex wakes it, a message wakes us. */
function byWorker(file: string): Way {
  const jobs = new Float64Array(new SharedArrayBuffer(8 * 4 * 64))
  const control = new Int32Array(new SharedArrayBuffer(8))
  const buffers = buffersOf(true)
  const worker = new Worker(new URL(import.meta.url), {
    workerData: { file, jobs, control, buffers: buffers.map((buffer) => buffer.buffer) },
  })
  const finished: ((slot: number) => void)[] = []
  let posted = 0
  worker.on('message', (upTo: number) => {
    for (; posted < upTo; posted++) finished[posted % 64]!(jobs[(posted % 64) * 4]!)
  })
  let queued = 0
  return {
    name: 'worker, whole bursts',
    start(work, offset, slot, done) {
      const at = (queued % 64) * 4
      jobs[at] = slot
      jobs[at + 1] = offset
      jobs[at + 2] = work.length
      jobs[at + 3] = work.operation === 'read' ? 0 : 1
      finished[queued++ % 64] = done
    },
    kick() {
      Atomics.store(control, 0, queued)
      Atomics.notify(control, 0)
    },
    close: () => worker.terminate(),
  }
}

interface WorkerData {
  readonly file: string
  readonly jobs: Float64Array
  readonly control: Int32Array
  readonly buffers: readonly SharedArrayBuffer[]
}

function work({ file, jobs, control, buffers }: WorkerData): void {
  const fd = fs.openSync(file, 'r+')
  const views = buffers.map((buffer) => Buffer.from(buffer))
  for (let done = 0; ;) {
    Atomics.wait(control, 0, done)
    const upTo = Atomics.load(control, 0)
    for (; done < upTo; done++) {
      const at = (done % 64) * 4
      const [slot, offset, length, writes] = jobs.subarray(at, at + 4)
      const view = views[slot!]!
      if (writes === 0) fs.readSync(fd, view, 0, length!, offset!)
      else fs.writeSync(fd, view, 0, length, offset)
    }
    parentPort!.postMessage(done)
  }
}

/** The product's own driver, below its checks and counters. */
async function byDevice(file: string, cached: boolean): Promise<Way> {
  const slab = new Slab()
  const driver = new FileDriver({ path: file }, slab, cached ? systemClock : reluctant)
  const device = new Device('file', driver, systemClock)
  await device.open()
  const buffers = buffersOf()
  const owner: Completer = {
    completed(request) {
      const { error, tag, context } = request
      if (error !== null) throw error
      request.release()
      ;(context as (slot: number) => void)(tag)
    },
  }
  return {
    name: cached ? 'file device' : 'file device, never on the loop',
    start(work, offset, slot, done) {
      const operation = work.operation === 'read' ? Operation.read : Operation.write
      const request = Request.take(operation, offset, work.length, 0, owner)
      if (work.operation === 'write') request.append(buffers[slot]!.subarray(0, work.length), null)
      request.context = done
      request.tag = slot
      device.submit(request)
    },
    close: () => device.close(),
  }
}

/** A clock by which it is never time to try a read on the loop. */
const reluctant = { ...systemClock, now: () => -1 }

const works: Work[] = [
  { operation: 'read', length: 4 * KiB, depth: 1, random: true },
  { operation: 'read', length: 4 * KiB, depth: 32, random: true },
  { operation: 'read', length: 4 * KiB, depth: 32, random: false },
  { operation: 'read', length: 128 * KiB, depth: 32, random: true },
  { operation: 'read', length: MiB, depth: 8, random: true },
  { operation: 'write', length: 4 * KiB, depth: 1, random: true },
  { operation: 'write', length: 4 * KiB, depth: 32, random: true },
  { operation: 'write', length: 4 * KiB, depth: 32, random: false },
  { operation: 'write', length: 128 * KiB, depth: 32, random: true },
  { operation: 'write', length: MiB, depth: 8, random: true },
]

function title(work: Work): string {
  const order = work.random ? 'random' : 'sequential'
  return `${order} ${work.operation} of ${work.length / KiB} KiB, depth ${work.depth}`
}

function dropCaches(): boolean {
  try {
    fs.writeFileSync('/proc/sys/vm/drop_caches', '1')
    return true
  } catch {
    return false
  }
}

async function main(): Promise<void> {
  cleanUpAtEnd()
  const folder = fs.mkdtempSync(path.join(process.argv[2] ?? os.tmpdir(), 'dst-files-'))
  trackFolder(folder)
  const file = path.join(folder, 'image')
  const fd = fs.openSync(file, 'w')
  const fill = new SeededRandom(1).bytes(MiB)
  for (let at = 0; at < fileBytes; at += MiB) fs.writeSync(fd, fill, 0, MiB, at)
  fs.fsyncSync(fd)
  try {
    for (const cold of [false, true])
      for (const work of works) {
        if (!title(work).includes(process.argv[3] ?? '')) continue
        if (cold && (work.operation === 'write' || work.length > 4 * KiB)) continue
        console.log(`\n${title(work)}${cold ? ', cold cache' : ''}`)
        const ways = [
          () => byPool(file),
          () => bySync(file),
          () => byWorker(file),
          () => byDevice(file, false),
          () => byDevice(file, true),
        ]
        for (const make of ways) {
          const way = await make()
          if (cold && !dropCaches()) return
          const figures = await measure(way, work)
          const perGiB = (figures.cpuMicroseconds * (GiB / work.length)) / 1e6
          console.log(
            `  ${way.name.padEnd(32)}`,
            `${figures.microseconds.toFixed(1).padStart(8)} us/op`,
            `${figures.cpuMicroseconds.toFixed(1).padStart(8)} us cpu/op`,
            `${perGiB.toFixed(2).padStart(7)} s cpu/GiB`,
            `  loop delay p99.9 ${figures.delayMs.toFixed(1)} ms`,
          )
          await way.close()
        }
      }
  } finally {
    cleanUp()
  }
}

if (isMainThread) await main()
else work(workerData as WorkerData)
