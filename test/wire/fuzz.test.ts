import { expect } from 'chai'
import { once } from 'node:events'
import net from 'node:net'
import { KiB, MiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import { read, submit, write } from '../support/io.ts'
import { hello, RawClient, request } from './raw.ts'
import { clientContext, reaches, remote, Target } from './rig.ts'
import { SeededRandom } from '../support/seeded.ts'

/** Milliseconds for each fuzzer; DST_FUZZ_MS and DST_FUZZ_SEED set it and the first seed. */
const duration = Number(process.env['DST_FUZZ_MS'] ?? 1500)
const firstSeed = Number(process.env['DST_FUZZ_SEED'] ?? Date.now() % 1_000_000)
const fixedSeeds = [1, 2, 3, 4, 5, 6, 7, 8]

const size = 4 * MiB

/** Some fixed seeds, then new ones until the time is over. */
function* seeds(): Generator<number> {
  yield* fixedSeeds
  const end = performance.now() + duration
  for (let seed = firstSeed; performance.now() < end; seed++) yield seed
}

/** What a client might say: a hello and some requests. */
function conversation(random: SeededRandom): Buffer {
  const client = random.bytes(16).toString('hex')
  const name = random.below(8) === 0 ? 'nowhere' : 'disk'
  const parts = [hello({ client, name, epoch: random.below(3), index: random.below(2) })]
  for (let left = random.below(20); left > 0; left--) {
    const command = [1, 2, 3, 4, 5, 6, 16, 32, 33, 9][random.below(10)]!
    const length = random.below(random.below(4) === 0 ? 2 * MiB : 8 * KiB)
    const payload = command === 2 ? Buffer.alloc(length, 3) : undefined
    const [offset, slot] = [random.below(size), random.below(40)]
    const flags = random.below(4) === 0 ? random.below(9) : 0
    parts.push(request({ command, length, offset, slot, flags, sequence: left }, payload))
  }
  return Buffer.concat(parts)
}

/** Bits turned, bytes made up, parts left out or said twice. */
function mutate(bytes: Buffer, random: SeededRandom): Buffer {
  const mutated = Buffer.from(bytes)
  const first = random.below(4) === 0 ? 0 : 76
  for (let left = random.below(6); left > 0; left--) {
    const at = first + random.below(Math.max(1, mutated.length - first))
    if (random.below(2) === 0) mutated[at]! ^= 1 << random.below(8)
    else mutated[at] = random.below(256)
  }
  const from = random.below(mutated.length)
  const to = from + random.below(64)
  const what = random.below(8)
  if (what === 0) return mutated.subarray(0, from)
  if (what === 1) return Buffer.concat([mutated.subarray(0, from), mutated.subarray(to)])
  if (what === 2) return Buffer.concat([mutated.subarray(0, to), mutated.subarray(from)])
  return mutated
}

/** Forwards to a port, and changes some bytes of what comes back as often as `trouble` says. */
class Garbler {
  trouble = 0
  changed = 0
  private readonly server: net.Server
  private readonly sockets = new Set<net.Socket>()

  constructor(port: number, random: SeededRandom) {
    this.server = net.createServer({ noDelay: true }, (client) => {
      const upstream = net.connect({ port, host: '127.0.0.1', noDelay: true })
      client.on('data', (chunk) => upstream.write(chunk))
      upstream.on('data', (chunk) => {
        if (random.fraction() < this.trouble) {
          // The start of a chunk is where headers mostly are.
          const span = random.below(2) === 0 ? Math.min(64, chunk.length) : chunk.length
          chunk[random.below(span)]! ^= 1 << random.below(8)
          this.changed++
        }
        client.write(chunk)
      })
      for (const socket of [client, upstream]) {
        this.sockets.add(socket)
        socket.on('error', () => undefined)
        socket.on('close', () => {
          client.destroy()
          upstream.destroy()
        })
      }
    })
  }

  async start(): Promise<number> {
    this.server.listen(0, '127.0.0.1')
    await once(this.server, 'listening')
    return (this.server.address() as net.AddressInfo).port
  }

  async stop(): Promise<void> {
    for (const socket of this.sockets) socket.destroy()
    this.server.close()
    await once(this.server, 'close')
  }
}

describe(`conversations fuzzed from seed ${firstSeed}`, function () {
  this.timeout(3 * duration + 300_000)
  let target: Target

  beforeEach(async () => {
    target = new Target({ limits: { payload: MiB } })
    await target.addMemory('disk', size)
    await target.start()
  })

  it('leave the server as it was', async () => {
    for (const seed of seeds()) {
      const random = new SeededRandom(seed)
      const clients: RawClient[] = []
      for (let count = 0; count < 8; count++) {
        const client = await RawClient.connect(target.tcp)
        client.send(mutate(conversation(random), random))
        clients.push(client)
      }
      const device = remote(target.unix, 'disk')
      await device.open()
      const data = random.bytes(5000)
      const at = random.below(size - data.length)
      const outcome = await submit(device, Operation.write, at, data.length, 0, [data])
      // A turned bit makes a claim of a stamp: then all others are fenced, as they should be.
      expect(outcome.error?.code ?? 'FENCED', `seed ${seed}`).to.equal('FENCED')
      await read(device, at, data.length)
      for (const client of clients) client.socket.end()
      await Promise.all(clients.map((client) => client.closed))
      await device.close()
    }
    await target.stop()
    expect(target.admission.bytesInFlight).to.equal(0)
    expect(target.slab.bytesHeld).to.equal(0)
  })

  for (const checksums of [true, false])
    it(`${checksums ? 'never fool' : 'never stop'} a client`, async () => {
      const random = new SeededRandom(firstSeed)
      const garbler = new Garbler(target.port, random)
      const port = await garbler.start()
      const context = clientContext()
      // Without checksums an answer may lose its id: then only a timeout tells.
      const patience = { pingInterval: 40, pingTimeout: 200, requestTimeout: 400, hold: 60_000 }
      const address = { kind: 'tcp', host: '127.0.0.1', port } as const
      const device = remote(address, 'disk', { ...patience, checksums }, context)
      await device.open()
      const content = random.bytes(size)
      await write(device, 0, content)
      garbler.trouble = 0.05
      const end = performance.now() + duration
      const lanes = Array.from({ length: 6 }, async () => {
        while (performance.now() < end) {
          const length = 1 + random.below(random.below(5) === 0 ? 300_000 : 9000)
          const offset = random.below(size - length)
          const outcome = await submit(device, Operation.read, offset, length)
          const same = outcome.data.equals(content.subarray(offset, offset + length))
          // Damage that came three times in a row is an error; it is never passed on as data.
          if (checksums && outcome.error === null) expect(same, `seed ${firstSeed}`).to.equal(true)
        }
      })
      await Promise.all(lanes)
      garbler.trouble = 0
      await reaches(device, ({ state }) => state.word === 'online')
      expect((await read(device, 0, size)).equals(content)).to.equal(true)
      expect(garbler.changed).to.be.greaterThan(5)
      await device.close()
      await garbler.stop()
      await target.stop()
      expect(context.slab.bytesHeld).to.equal(0)
    })
})
