import { expect } from 'chai'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CopyCounter } from '../../bench/count/copies.ts'
import { atLeast, atMost, figureCells, isMet, type Figure } from '../../bench/report/figures.ts'
import { formatOccasions, goalFigures, memoryGoal } from '../../bench/report/goals.ts'
import { cut } from '../../bench/run/progress.ts'
import type { Report } from '../../bench/report/report.ts'
import type { Row } from '../../bench/run/run.ts'
import { Running, type Folders } from '../../bench/servers/servers.ts'
import { leafTree, target } from '../../bench/servers/trees.ts'
import { Volley } from '../../bench/clients/volley.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { emptyReport, roundOf } from './support.ts'

const work = { pattern: 'randread', blockSize: 4 * KiB, depth: 32 } as const

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

describe('volleys', () => {
  let folder: string
  let folders: Folders
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dst-test-'))
    folders = { disk: folder, memory: folder }
  })
  afterEach(() => {
    rmSync(folder, { recursive: true })
  })

  it('see a planted slowdown, and leave nothing behind', async () => {
    const volume = { media: 'memory', transport: 'unix', size: 4 * MiB } as const
    const costOf = async (slowdown: number): Promise<number> => {
      const running = await Running.start(target(leafTree, { slowdown }), volume, folders)
      const volley = await Volley.connect(running.uri)
      await volley.run(work, 400)
      const before = running.usage()
      const operations = await volley.run(work, 400)
      const cost = running.cpuBetween(before, running.usage()) / operations
      volley.close()
      await running.stop()
      return cost
    }
    // Four times as dear, but for what else a busy machine does.
    expect((await costOf(3)) / (await costOf(0))).to.be.above(1.8)
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

  it('hold the memory of the target against its bound', () => {
    const of = (tree: string, peakBytes: number): Row => ({
      ...row(`memory of the target, ${tree}`, 'file over unix', 'dst', 1),
      rounds: [{ ...roundOf(0, 1), peakBytes }],
    })
    const rows = [of('leaf', 348 * MiB), of('mirror of 2', 600 * MiB)]
    const found = goalFigures({ ...emptyReport, rows })
    expect(found.map(({ name, values }) => [name, values[0]])).to.deep.equal([
      ['leaf, file over unix: randread 4K ×32', 348],
      ['mirror of 2, file over unix: randread 4K ×32', 600],
    ])
    expect(found.map(isMet)).to.deep.equal([true, false])
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
})

describe('what is shown of a run', () => {
  it('has a line of progress that fits the terminal', () => {
    expect(cut('twelve long words', 10)).to.equal('twelve lo')
    expect(cut('twelve long words', 80)).to.equal('twelve long words')
    // Where nobody knows how wide it is.
    expect(cut('twelve long words', 0)).to.equal('twelve long words')
  })
})
