import net from 'node:net'
import { once } from 'node:events'
import { expect } from 'chai'
import { KiB, MiB } from '../../src/base/size.ts'
import { Operation, type Operation as Kind } from '../../src/device/request.ts'
import type { Receive } from '../../src/net/sockets.ts'
import * as codec from '../../src/nbd/codec.ts'
import * as options from '../../src/nbd/options.ts'
import { Option } from '../../src/nbd/options.ts'
import { submit } from '../support/io.ts'
import { nbdLeaf, nbdWorld } from './leaf.ts'
import { Rig } from './rig.ts'
import { Talker } from './talker.ts'
import { SeededRandom } from '../support/seeded.ts'

/** Milliseconds for each fuzzer; DST_FUZZ_MS and DST_FUZZ_SEED set it and the first seed. */
const duration = Number(process.env['DST_FUZZ_MS'] ?? 1500)
const firstSeed = Number(process.env['DST_FUZZ_SEED'] ?? Date.now() % 1_000_000)

const size = 4 * MiB

/** What a client might say, from the greeting to a few requests. */
function conversation(random: SeededRandom): Buffer {
  const name = random.below(8) === 0 ? 'nowhere' : 'm'
  const queries = [options.allocationContext]
  const parts = [
    options.encodeClientFlags(3),
    options.encodeOption(Option.list, Buffer.alloc(0)),
    options.encodeOption(Option.structuredReply, Buffer.alloc(0)),
    options.encodeOption(Option.setMetaContext, options.encodeMetaRequest({ name, queries })),
    options.encodeOption(Option.go, options.encodeInfoRequest({ name, infos: [0, 3] })),
  ]
  for (let left = random.below(20); left > 0; left--) {
    const header = new codec.RequestHeader()
    header.type = random.below(9)
    header.flags = random.below(4) === 0 ? random.below(32) : 0
    header.offset = random.below(size)
    header.length = random.below(random.below(4) === 0 ? 2 * MiB : 8 * KiB)
    const bytes = Buffer.alloc(codec.requestBytes)
    header.encode(bytes, 0)
    parts.push(bytes)
    if (header.type === codec.Command.write) parts.push(Buffer.alloc(header.length, 3))
  }
  return Buffer.concat(parts)
}

/** Bits turned, bytes made up, parts left out or said twice. */
function mutate(bytes: Buffer, random: SeededRandom): Buffer {
  const mutated = Buffer.from(bytes)
  for (let left = random.below(6); left > 0; left--) {
    const at = random.below(mutated.length)
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

/** Forwards to a port and changes some bytes of what comes back. */
async function relay(port: number, random: SeededRandom): Promise<net.Server> {
  const server = net.createServer({ noDelay: true }, (client) => {
    const upstream = net.connect({ port, host: '127.0.0.1', noDelay: true })
    client.on('data', (chunk) => upstream.write(chunk))
    upstream.on('data', (chunk) => {
      // The start of a chunk is where headers mostly are.
      if (random.below(12) === 0)
        chunk[random.below(Math.min(64, chunk.length))] = random.below(256)
      client.write(chunk)
    })
    for (const socket of [client, upstream])
      socket
        .on('error', () => undefined)
        .on('close', () => {
          client.destroy()
          upstream.destroy()
        })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

for (const receive of ['landing', 'events'] as const satisfies Receive[])
  describe(`fuzzing NBD, ${receive}, seed ${firstSeed}`, () => {
    let rig: Rig
    beforeEach(async () => {
      rig = new Rig({ payload: MiB, handshakeTimeout: 2000 }, receive)
      await rig.listen()
      await rig.addMemory('m', size)
    })
    afterEach(async () => {
      await rig.close()
      expect(rig.slab.bytesHeld).to.equal(0)
      expect(rig.admission.bytesInFlight).to.equal(0)
    })

    it('the server outlives noise and mutated conversations', async () => {
      const good = await Talker.using(rig.unix, 'm', true)
      const until = performance.now() + duration
      let seed = firstSeed
      for (; performance.now() < until; seed++) {
        const random = new SeededRandom(seed)
        const noise = random.below(5) === 0
        const said = noise ? random.bytes(1 + random.below(3000)) : conversation(random)
        const bytes = noise ? said : mutate(said, random)
        const talker = await Talker.connect(rig.unix)
        for (let at = 0; at < bytes.length;) {
          const length = 1 + random.below(random.below(3) === 0 ? 40 : 100_000)
          talker.say(bytes.subarray(at, at + length))
          at += length
        }
        const answer = await good.ask(codec.Command.read, 0, 512)
        expect(answer.error, `seed ${seed}`).to.equal(0)
        if (random.below(2) === 0) talker.socket.end()
        else talker.close()
      }
      good.close()
    }).timeout(duration + 300_000)

    it('the client outlives a server whose words are changed', async () => {
      const random = new SeededRandom(firstSeed)
      const { tcp } = rig
      const server = await relay(tcp.kind === 'tcp' ? tcp.port : 0, random)
      const { port } = server.address() as net.AddressInfo
      const address = { kind: 'tcp', host: '127.0.0.1', port } as const
      const patience = { connectTimeout: 300, requestTimeout: 200, quiesce: 0, hold: 500 }
      const world = nbdWorld(receive)
      const leaf = nbdLeaf(address, 'm', patience, world)
      await leaf.open()
      const until = performance.now() + duration
      const kinds: Kind[] = [0, 1, 2, 3, 4, 5]
      while (performance.now() < until) {
        const requests = Array.from({ length: 16 }, () => {
          const operation = kinds[random.below(kinds.length)]!
          const length = operation === Operation.flush ? 0 : 1 + random.below(64 * KiB)
          const offset = operation === Operation.flush ? 0 : random.below(size - length)
          const payload = operation === Operation.write ? [Buffer.alloc(length)] : []
          return submit(leaf, operation, offset, length, 0, payload)
        })
        await Promise.all(requests)
        if (!leaf.usable) await new Promise((resolve) => setTimeout(resolve, 10))
      }
      await leaf.close()
      server.close()
      expect(world.slab.bytesHeld).to.equal(0)
    }).timeout(duration + 300_000)
  })
