import { expect } from 'chai'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ticksOf } from '../../bench/chart.ts'
import { CopyCounter } from '../../bench/copies.ts'
import { PlainCopy } from '../../bench/copy.ts'
import { atLeast, atMost, figureCells, isMet, type Figure } from '../../bench/figures.ts'
import { formatOccasions, goalFigures, memoryGoal } from '../../bench/goals.ts'
import { formatPage } from '../../bench/html.ts'
import { measurePairs } from '../../bench/pairs.ts'
import { copyIsCheaper, type PathResult } from '../../bench/paths.ts'
import { cut, secondsLeft } from '../../bench/progress.ts'
import { formatTables, type Report } from '../../bench/report.ts'
import type { Row } from '../../bench/run.ts'
import type { Plan } from '../../bench/suites.ts'
import { leafTree, target } from '../../bench/trees.ts'
import { Volley } from '../../bench/volley.ts'
import { systemClock } from '../../src/base/clock.ts'
import { SeededRandom } from '../../src/base/random.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { ErrorDriver } from '../../src/device/faults/error.ts'
import { fill } from '../../src/device/load.ts'
import { MemoryDriver } from '../../src/device/memory.ts'
import { Operation, Request } from '../../src/device/request.ts'
import { emptyReport, roundOf } from './support.ts'

const random = new SeededRandom(5)
const work = { pattern: 'randread', blockSize: 4 * KiB, depth: 32 } as const

function memory(name: string, size: number): Device {
  return new Device(name, new MemoryDriver(size, random), systemClock)
}

function read(device: Device, offset: number, length: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const request = Request.take(Operation.read, offset, length, 0, {
      completed(done) {
        const bytes = Buffer.concat(done.segments)
        const { error } = done
        done.release()
        if (error === null) resolve(bytes)
        else reject(error)
      },
    })
    device.submit(request)
  })
}

describe('a plain copy, which resyncs are held against', () => {
  it('copies everything, the rest of a chunk as well', async () => {
    const [from, to] = [memory('from', MiB), memory('to', MiB)]
    await Promise.all([from.open(), to.open()])
    await fill(from, random)
    const bytes = 1000 * KiB
    await new PlainCopy(from, to, bytes, 64 * KiB).run(8)
    expect((await read(to, 0, bytes)).equals(await read(from, 0, bytes))).to.equal(true)
    expect((await read(to, bytes, 4 * KiB)).every((byte) => byte === 0)).to.equal(true)
  })

  it('fails when a device does', async () => {
    const from = memory('from', MiB)
    const driver = new ErrorDriver(memory('below', MiB), { operations: ['write'] }, random)
    const to = new Device('to', driver, systemClock)
    await Promise.all([from.open(), to.open()])
    const copy = new PlainCopy(from, to, MiB, 64 * KiB).run(8)
    expect(
      await copy.then(
        () => 'copied',
        (error: unknown) => String(error),
      ),
    ).to.match(/on purpose/)
  })
})

describe('counting copies', () => {
  const holders: readonly (readonly [object, string])[] = [
    [Buffer.prototype as object, 'copy'],
    [Buffer, 'concat'],
    [Object.getPrototypeOf(Uint8Array.prototype) as object, 'set'],
  ]
  const methods = (): unknown[] => holders.map(([on, name]) => Reflect.get(on, name) as unknown)

  it('sees every way to copy, only while it counts, and leaves all as it was', () => {
    const before = methods()
    const counter = new CopyCounter()
    const source = Buffer.alloc(1000)
    counter.start()
    source.copy(Buffer.alloc(600))
    Buffer.alloc(1000).set(source)
    Uint8Array.prototype.slice.call(source, 0, 10)
    Buffer.concat([source, source])
    Buffer.from(source)
    source.subarray(0, 500)
    expect(counter.stop()).to.equal(600 + 1000 + 10 + 2000 + 1000)
    source.copy(Buffer.alloc(600))
    expect(counter.stop()).to.equal(4610)
    expect(methods()).to.deep.equal(before)
  })
})

describe('volleys and pairs', () => {
  let folder: string
  let plan: Plan
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dst-test-'))
    plan = {
      quick: true,
      size: 4 * MiB,
      folders: { disk: folder, memory: folder },
      wantsWork: () => true,
      wantsServer: () => true,
      pace: {},
      against: null,
      omitted: [],
    }
  })
  afterEach(() => {
    rmSync(folder, { recursive: true })
  })

  it('see a planted slowdown, and leave nothing behind', async function () {
    const sides = [target(leafTree), target(leafTree, { slowdown: 3 })] as const
    const [[usual, slow]] = (await measurePairs(plan, sides, work, 1)) as [[number, number]]
    // Four times as dear, but for what else a busy machine does.
    expect(slow / usual).to.be.above(1.8)
    expect(readdirSync(folder)).to.deep.equal([])
  })

  it('say what a server does wrong', async () => {
    const path = join(folder, 'socket')
    const refuse = (socket: net.Socket): void => {
      socket.end('nothing like a greeting')
    }
    const server = net.createServer(refuse).listen(path)
    const wrong = await Volley.connect(`nbd+unix:///bench?socket=${path}`).then(
      () => 'connected',
      (error: unknown) => String(error),
    )
    expect(wrong).to.match(/closed the connection|EPIPE/)
    server.close()
  })
})

describe('figures and goals', () => {
  const figure = (values: number[], goal: Figure['goal']): Figure => ({
    suite: 's',
    name: 'n',
    unit: '×',
    values,
    goal,
  })

  it('are met by the median, at most or at least', () => {
    expect(isMet(figure([0.5, 0.6, 9], atMost(0.6)))).to.equal(true)
    expect(isMet(figure([0.5, 0.7, 0.8], atMost(0.6)))).to.equal(false)
    expect(isMet(figure([0.8], atLeast(0.8)))).to.equal(true)
    expect(isMet(figure([], atMost(1)))).to.equal(null)
    expect(figureCells(figure([], atMost(1)))).to.include('not measured')
  })

  it('are those of the table', () => {
    const goals = (['randread', 'randwrite', 'read', 'write'] as const).map((pattern) => [
      memoryGoal({ pattern, blockSize: 4 * KiB, depth: 32 }),
      memoryGoal({ pattern, blockSize: MiB, depth: 32 }),
      memoryGoal({ pattern, blockSize: 4 * KiB, depth: 1 }),
    ])
    const reads = [0.6, 0.65, 1]
    const writes = [0.8, 0.75, 1]
    expect(goals).to.deep.equal([reads, writes, reads, writes])
  })

  const row = (suite: string, setting: string, server: string, cost: number): Row => ({
    suite,
    setting,
    server,
    work,
    rounds: [roundOf(0, cost), roundOf(1, cost)],
  })
  const measured: Report = {
    ...emptyReport,
    rows: [
      row('peers', 'memory over unix', 'dst', 1),
      row('peers', 'memory over unix', 'nbdkit', 2),
      row('peers', 'file over unix', 'dst', 1),
      row('peers', 'file over unix', 'nbdkit', 0.8),
      row('mirror of two nbd', 'memory over unix', 'dst', 1),
      row('mirror of two nbd', 'memory over unix', 'qemu quorum', 4),
    ],
  }

  it('hold rows against peers, each with the goal for its place', () => {
    const cpu = goalFigures(measured).filter(({ name }) => name.endsWith('cpu'))
    expect(cpu.map(({ suite, values, goal }) => [suite, values[0], goal?.value])).to.deep.equal([
      ['memory, against nbdkit', 0.5, 0.6],
      ['file, against nbdkit', 1.25, 1],
      ['mirror of two nbd, against qemu quorum', 0.25, 0.5],
    ])
    expect(cpu.map(isMet)).to.deep.equal([true, false, true])
    const rate = goalFigures(measured).find(
      ({ name, suite }) => /quorum/.test(suite) && /op/.test(name),
    )
    expect(rate?.goal).to.deep.equal(atLeast(2))
  })

  it('show nbdkit with fewer threads beside the default, without a goal', () => {
    const four = row('peers', 'memory over unix', 'nbdkit -t 4', 4)
    const cpu = goalFigures({ ...measured, rows: [...measured.rows, four] }).filter(
      ({ name, suite }) => suite === 'memory, against nbdkit' && name.endsWith('cpu'),
    )
    expect(cpu.map(({ name, values, goal }) => [name, values[0], goal?.value])).to.deep.equal([
      ['randread 4K ×32, cpu', 0.5, 0.6],
      ['randread 4K ×32, against nbdkit -t 4, cpu', 0.25, undefined],
    ])
  })

  it('show all occasions side by side', () => {
    const { started, seconds, machine, omitted } = emptyReport
    const figures = goalFigures(measured)
    const occasion = { started, seconds, machine, omitted, figures }
    const text = formatOccasions([occasion, occasion])
    expect(text).to.match(
      /randread 4K ×32, cpu +× +≤ 0\.60 +0\.50 \(0\.50–0\.50\) +met +0\.50 0\.50/,
    )
    expect(text).to.match(/≤ 1\.00 +1\.25 \(1\.25–1\.25\) +MISSED +1\.25\* 1\.25\*/)
    const parameters = ['--goals', '--size', '4M']
    expect(formatOccasions([{ ...occasion, parameters }])).to.match(/load 0 {2}--size {2}4M$/)
    const none = { ...occasion, figures: figures.map((one) => ({ ...one, values: [] })) }
    const goals = figures.filter(({ goal }) => goal !== null).length
    expect(formatOccasions([occasion, none])).to.contain(
      `0 goals met, 0 missed, ${goals} not measured`,
    )
  })

  it('are in the page and in the tables', () => {
    const report = { ...measured, figures: [figure([2], atMost(1))] }
    expect(formatTables(report)).to.contain('MISSED')
    expect(formatPage(report)).to.contain('<td class="MISSED">')
    expect(formatPage(report)).to.contain('ours ÷ this: 0.50')
  })
})

describe('what is shown of a run', () => {
  it('has time left by the plan at first, and by its own pace later', () => {
    expect(secondsLeft(100, 1, 30)).to.equal(99)
    expect(secondsLeft(100, 50, 100)).to.equal(100)
  })

  it('has a line of progress that fits the terminal', () => {
    expect(cut('twelve long words', 10)).to.equal('twelve lo')
    expect(cut('twelve long words', 80)).to.equal('twelve long words')
    // Where nobody knows how wide it is.
    expect(cut('twelve long words', 0)).to.equal('twelve long words')
  })

  it('has axes from one round number to another', () => {
    expect(ticksOf(12, 80)).to.deep.equal([10, 20, 50, 100])
    expect(ticksOf(1, 1)).to.deep.equal([1, 2])
    expect(ticksOf(0.03, 0.04)).to.deep.equal([0.02, 0.05])
  })

  it('knows the sizes for which a copy is cheaper than a list', () => {
    const result = (way: PathResult['way'], size: number, cpu: number): PathResult => {
      const nothing = { copiedPerByte: 0, objectsPerMessage: 0, bytesPerMessage: 0, collecting: 0 }
      return { way, size, cpu, messages: 1, bytesPerSecond: 1, ...nothing }
    }
    const results = [
      result('send list', 512, 2),
      result('send copy', 512, 1),
      result('send list', 4096, 2),
      result('send copy', 4096, 3),
    ]
    expect(copyIsCheaper(results, 'send')).to.deep.equal([512])
    expect(copyIsCheaper(results, 'receive')).to.deep.equal([])
  })
})
