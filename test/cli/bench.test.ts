import { expect } from 'chai'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { MiB } from '../../src/base/size.ts'
import { Slab } from '../../src/base/slab.ts'
import type { LoadReport } from '../../src/cli/bench.ts'
import { Device } from '../../src/device/device.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { Operation } from '../../src/device/request.ts'
import { Admission } from '../../src/export/admission.ts'
import { Claims } from '../../src/export/claims.ts'
import type { Listener } from '../../src/net/network.ts'
import { SocketNetwork } from '../../src/net/sockets.ts'
import { NbdService } from '../../src/nbd/server.ts'
import { Workshop } from '../support/process.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { defaultLimits } from '../support/limits.ts'

const main = join(import.meta.dirname, '../../src/cli/main.js')

interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

function bench(parameters: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, 'bench', ...parameters], (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr })
    })
  })
}

describe('dst bench', () => {
  let folder: string
  let device: Device
  let service: NbdService
  let listener: Listener
  let uri: string

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'dst-test-'))
    const path = join(folder, 'socket')
    uri = `nbd+unix:///scratch?socket=${path}`
    device = new Device('scratch', new MemoryDriver(2 * MiB, systemRandom), systemClock)
    await device.open()
    const exported = { name: 'scratch', device, readOnly: false, mayClaim: true, description: '' }
    const exports = { find: () => exported, list: () => [exported] }
    const claims = new Claims(new MemoryStore())
    await new Promise((resolve) => claims.ready(resolve))
    service = new NbdService({
      admission: new Admission(defaultLimits.bytesInFlight),
      slab: new Slab(),
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
      limits: defaultLimits,
      claims,
    })
    listener = await new SocketNetwork().listen({ kind: 'unix', path }, (connection) =>
      service.accept(connection, { seenBy: () => exports }),
    )
  })

  afterEach(async () => {
    await listener.close()
    service.destroy()
    await device.close()
    rmSync(folder, { recursive: true })
  })

  it('reads, and writes only when told to', async () => {
    const few = ['--seconds', '0.05', '--block-size', '4K,128K', '--depth', '2']
    const { code, stdout } = await bench([...few, '--json', uri])
    expect(code).to.equal(0)
    const rows = JSON.parse(stdout) as LoadReport
    expect(rows.map(({ pattern, blockSize }) => [pattern, blockSize])).to.deep.equal([
      ['randread', 4096],
      ['randread', 131_072],
      ['read', 4096],
      ['read', 131_072],
    ])
    for (const { operations, bytes, blockSize } of rows) {
      expect(operations).to.be.above(0)
      expect(bytes).to.equal(operations * blockSize)
    }
    expect(device.counters.operations[Operation.write]).to.equal(0)
    // What our client does until it is compiled is in no row.
    const counted = rows.reduce((sum, { operations }) => sum + operations, 0)
    expect(device.counters.operations[Operation.read]).to.be.above(counted)

    const refused = await bench([...few, '--pattern', 'randwrite', uri])
    expect(refused.code).to.equal(2)
    expect(refused.stderr).to.contain('--write')
    const written = await bench([...few, '--pattern', 'randwrite', '--write', uri])
    expect(written.code).to.equal(0)
    expect(written.stdout).to.contain('randwrite 128K ×2')
    expect(device.counters.operations[Operation.write]).to.be.above(0)
  })

  it('says what it does not understand, and what it cannot reach', async () => {
    for (const wrong of [
      ['--depth', '0', uri],
      ['--block-size', '4Q', uri],
      ['--pattern', 'backwards', uri],
      ['http://127.0.0.1/'],
      // Said before anything is measured: the first of them would do.
      ['--block-size', '4K,4M', uri],
      ['--block-size', '4K,1G', '--pattern', 'read', uri],
    ])
      expect((await bench(wrong)).code, wrong.join(' ')).to.equal(2)
    const { code, stderr } = await bench([`nbd+unix:///?socket=${join(folder, 'nobody')}`])
    expect(code).to.equal(1)
    expect(stderr).to.contain('nobody')
  })
})

describe('dst bench, when the server', () => {
  let workshop: Workshop
  beforeEach(() => (workshop = new Workshop()))
  afterEach(() => workshop.close())

  /** Sends the server a signal in the middle of the work; what the command makes of it. */
  async function interrupted(protocol: string, signal: NodeJS.Signals): Promise<Outcome> {
    const socket = join(workshop.folder, 'socket')
    const server = await workshop.serve('target', {
      listeners: [{ protocol, address: `unix:${socket}` }],
      devices: { scratch: { type: 'memory', size: 2 * MiB } },
      exports: { scratch: { device: 'scratch' } },
    })
    const uri = `${protocol}+unix:///scratch?socket=${socket}`
    // One read at a time: nothing but timers is left when its connection is.
    const few = ['--depth', '1', '--pattern', 'randread', '--block-size', '4K,8K']
    const child = spawn(
      process.execPath,
      [main, 'bench', ...few, '--seconds', '0.5', '--timeout', '1', uri],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    )
    workshop.later(() => child.kill('SIGKILL'))
    const over = once(child, 'close')
    let stdout = ''
    let stderr = ''
    child.stderr.on('data', (text: Buffer) => (stderr += text.toString()))
    child.stdout.on('data', (text: Buffer) => {
      // The first row is there: the second is being measured.
      if (stdout === '') process.kill(server.pid!, signal)
      stdout += text.toString()
    })
    const [code] = (await over) as [number]
    return { code, stdout, stderr }
  }

  for (const protocol of ['nbd', 'dst'] as const) {
    it(`goes away, says so and fails (${protocol})`, async () => {
      const { code, stderr } = await interrupted(protocol, 'SIGKILL')
      expect(stderr).to.match(/^dst: error: [^\n]*(closed the connection|ECONN|EPIPE)[^\n]*\n$/)
      expect(code).to.equal(1)
    })

    it(`freezes, gives up in time, says so and fails (${protocol})`, async () => {
      const { code, stderr } = await interrupted(protocol, 'SIGSTOP')
      expect(stderr).to.match(/^dst: error: [^\n]*(no answer within 1000 ms|silent for)/)
      expect(code).to.equal(1)
    })
  }
})
