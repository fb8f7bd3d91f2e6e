import { expect } from 'chai'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { measureAllocations } from '../../bench/count/allocation-suite.ts'
import { ownClient } from '../../bench/clients/own.ts'
import { descendants, isAlive } from '../../bench/servers/proc.ts'
import { runProgram } from '../../bench/servers/process.ts'
import { formatTables } from '../../bench/report/report.ts'
import { runBout, type Bout } from '../../bench/run/run.ts'
import { pump, Running, type Place, type Server } from '../../bench/servers/servers.ts'
import { readOptions, type Options } from '../../bench/options.ts'
import { boutOf, memoryBouts, type Plan } from '../../bench/run/suites.ts'
import { target, type Tree } from '../../bench/servers/trees.ts'
import { Volley } from '../../bench/clients/volley.ts'
import type { Client, Work } from '../../bench/clients/work.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { emptyReport } from './support.ts'

const main = join(import.meta.dirname, '../../bench/main.js')
const works: readonly Work[] = [
  { pattern: 'randread', blockSize: 4 * KiB, depth: 8 },
  { pattern: 'randwrite', blockSize: 4 * KiB, depth: 8 },
]
/** One volley that writes all of a volume of 4 MiB. */
const wholeVolume = { pattern: 'write', blockSize: MiB, depth: 4 } as const
const unix = { media: 'memory', transport: 'unix' } as const
const pace = { rounds: 2, seconds: 0.05, warmUp: 0, budget: Infinity }

/** Every write to the second half fails, as on a disk that is full. */
const halfTree: Tree = {
  name: 'half',
  backings: [],
  device: ({ size }) => ({
    type: 'error',
    operations: ['write'],
    range: { offset: size / 2, length: size / 2 },
    device: { type: 'memory', size },
  }),
}

describe('a benchmark', () => {
  let folder: string
  let plan: Plan
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dst-test-'))
    plan = {
      ...(readOptions(['--size', '4M', '--json', join(folder, 'x.json')]) as Options),
      folders: { disk: folder, memory: folder },
      omitted: [],
    }
  })
  afterEach(() => {
    rmSync(folder, { recursive: true })
  })

  const boutWith = (...servers: readonly Server[]): Bout =>
    boutOf(plan, 'peers', works, servers, unix, pace)

  // With our own client, and with fio where it is, which has children of its own.
  for (const [signal, suite] of [
    ['SIGINT', 'protocols'],
    ['SIGTERM', 'peers'],
  ] as const)
    it(`leaves no process and no folder behind after ${signal}`, async function () {
      const child = spawn(
        process.execPath,
        [main, '--quick', '--suite', suite, '--size', '4M', '--warm-up', '0', '--seconds', '60'],
        { cwd: folder, env: { ...process.env, TMPDIR: folder }, stdio: ['ignore', 'pipe', 'pipe'] },
      )
      const over = once(child, 'close')
      let said = ''
      let started: number[] = []
      for await (const line of createInterface(child.stderr)) {
        said += `${line}\n`
        // Servers run, and a client as well.
        if (started.length > 0 || !line.includes('4K ×')) continue
        started = descendants(child.pid!).slice(1)
        child.kill(signal)
      }
      const [code] = (await over) as [number]
      expect(started.length, said).to.be.at.least(2)
      expect(said).to.contain(`interrupted by ${signal}`)
      expect(code).to.equal(signal === 'SIGINT' ? 130 : 143)
      expect(readdirSync(folder)).to.deep.equal([])
      const memory = readdirSync('/dev/shm').filter((name) => name.includes(`-${child.pid!}-`))
      expect(memory).to.deep.equal([])
      // Killed is killed: the last of them may be a moment away from its end.
      while (started.some(isAlive)) await new Promise((resolve) => setImmediate(resolve))
    })

  it('has no figures of a server that dies, but says why', async function () {
    const mortal = { ...pump, name: 'mortal' }
    const started: Running[] = []
    const bout = boutWith(mortal, pump)
    const start = async (): Promise<readonly Running[]> => {
      const servers = await bout.start()
      started.splice(0, started.length, ...servers)
      return servers
    }
    // It dies after its answers, in the second round only: the first round's figures go as well.
    let drives = 0
    const client: Client = {
      drive: async (uris, work, seconds) => {
        const seen = await ownClient.drive(uris, work, seconds)
        const dying = started.find(({ server }) => server === mortal)!
        if (++drives === 3) {
          process.kill(dying.pid, 'SIGKILL')
          while (isAlive(dying.pid)) await new Promise((resolve) => setImmediate(resolve))
        }
        return seen
      },
    }
    const rows = await runBout({ ...bout, start }, client)
    const dead = rows.filter(({ server }) => server === 'mortal')
    expect(dead.map(({ rounds }) => rounds.length)).to.deep.equal([0, 1])
    expect(dead[0]!.failed).to.match(/the server has ended/)
    for (const row of rows.filter(({ server }) => server === 'pump'))
      expect(row.rounds, JSON.stringify(row)).to.have.length(2)
    const text = formatTables({ ...emptyReport, rows, omitted: plan.omitted })
    expect(text).to.match(/randread 4K ×8 +mortal +failed\n/)
    expect(text).to.match(/randread 4K ×8, mortal: failed: the server has ended/)
  })

  it('finds out who it was when a client cannot tell, and goes on', async function () {
    const frozen = { ...pump, name: 'frozen' }
    const bout = boutWith(frozen, pump)
    const at: string[] = []
    const start = async (): Promise<readonly Running[]> => {
      const servers = await bout.start()
      at.push(servers.find(({ server }) => server === frozen)!.uri)
      return servers
    }
    let asked = 0
    const client: Client = {
      drive: (uris, work, seconds) => {
        if (uris.includes(at.at(-1)!)) {
          asked++
          return Promise.reject(new Error('not done within 20 s'))
        }
        return ownClient.drive(uris, work, seconds)
      },
    }
    const rows = await runBout({ ...bout, start }, client)
    const [first, second] = rows.filter(({ server }) => server === 'frozen')
    expect(first!.failed).to.equal('not done within 20 s')
    expect(second!.failed).to.equal('not done within 20 s')
    // With the others, and by itself; then not again in the same round.
    expect(asked).to.equal(4)
    for (const row of rows.filter(({ server }) => server === 'pump'))
      expect(row.rounds).to.have.length(2)
  })

  for (const protocol of ['nbd', 'dst'] as const)
    it(`fails what is to be measured on a volume that cannot be filled (${protocol})`, async () => {
      const bout = boutWith(target(halfTree, { protocol }))
      const rows = await runBout(bout, ownClient)
      expect(rows.map(({ rounds }) => rounds.length)).to.deep.equal([0, 0])
      for (const { failed } of rows) expect(failed).to.match(/^filling and warming up: /)
      expect(readdirSync(folder)).to.deep.equal([])
    })

  it('says which suites had nothing to do', async () => {
    const rows = await runBout(
      boutOf({ ...plan, only: ['nothing'] }, 'peers', works, [pump], unix, pace),
      ownClient,
    )
    expect(rows).to.deep.equal([])
    boutOf(plan, 'matrix', works, [], unix, pace)
    expect(plan.omitted).to.deep.equal([
      'peers, memory over unix: none of its work was asked for',
      'matrix, memory over unix: none of its servers was asked for',
    ])
    const others = { ...plan, omitted: [], servers: ['nbdkit'] }
    for (const bout of memoryBouts(others)) expect(bout.servers, bout.suite).to.equal(0)
    expect(others.omitted).to.include(
      'memory of the target, leaf, file over unix: none of its servers was asked for',
    )
    expect(await measureAllocations(others, ownClient)).to.deep.equal([])
    expect(others.omitted).to.include('allocation: none of its work or servers was asked for')
  })

  it('names what does not start once, whatever folder it had', async () => {
    const absent = { ...pump, name: 'absent', command: ({ folder: at }: Place) => ['absent', at] }
    await runBout(boutWith(absent), ownClient)
    expect(plan.omitted, plan.omitted.join('\n')).to.have.length(1)
    expect(plan.omitted[0]).to.match(/^peers, absent: absent .* ended: spawn absent ENOENT$/)
  })

  it('has no figures of processor time that nobody saw', async function () {
    const bout = boutWith(pump)
    const start = async (): Promise<readonly Running[]> => {
      const servers = await bout.start()
      for (const server of servers) {
        const usage = server.usage()
        server.usage = () => usage
      }
      return servers
    }
    const rows = await runBout({ ...bout, start }, ownClient)
    for (const { failed } of rows) expect(failed).to.match(/no processor time was seen/)
  })

  it('sees an error in any reply to a volley of writes', async () => {
    const running = await Running.start(target(halfTree), { ...unix, size: 4 * MiB }, plan.folders)
    try {
      const volley = await Volley.connect(running.uri)
      const failed = await volley.run(wholeVolume, 0).then(
        () => 'written',
        (error: unknown) => String(error),
      )
      volley.close()
      expect(failed).to.match(/the server answers with error/)
    } finally {
      await running.stop()
    }
  })

  it('does not wait for ever for a program', async () => {
    const words = ['-c', 'sleep 1000 & echo $!; wait']
    const { failure, stdout } = await runProgram('sh', words, 0.5)
    expect(failure).to.match(/not done within 0.5 s/)
    // What it has started was killed as well, and is a moment away from its end at most.
    while (isAlive(Number(stdout))) await new Promise((resolve) => setImmediate(resolve))
    expect((await runProgram('sleep', ['0'], 10)).failure).to.equal(null)
  })

  it('opens as many connections as a work has', async function () {
    const running = await Running.start(pump, { ...unix, size: 4 * MiB }, plan.folders)
    const path = join(folder, 'counting')
    let open = 0
    let most = 0
    const counting = net.createServer((socket) => {
      most = Math.max(most, ++open)
      const on = net.connect(running.place.socket!)
      socket.pipe(on).pipe(socket)
      const end = (): void => {
        socket.destroy()
        on.destroy()
      }
      for (const each of [socket, on]) each.on('error', end).on('close', end)
      socket.on('close', () => open--)
    })
    counting.listen(path)
    await once(counting, 'listening')
    try {
      const work = { ...works[0]!, connections: 20 }
      const [seen] = await ownClient.drive([`nbd+unix:///?socket=${path}`], work, 0.1)
      expect(seen).to.have.property('operations').above(0)
      expect(most).to.equal(20)
    } finally {
      await running.stop()
      counting.close()
    }
  })
})
