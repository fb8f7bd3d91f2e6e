import { expect } from 'chai'
import type { Entrance } from '../../src/export/export.ts'
import type { Service, ServiceContext } from '../../src/export/service.ts'
import type { Connection, ConnectionHandler } from '../../src/net/network.ts'
import { Operation, type Request } from '../../src/device/request.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { NbdService } from '../../src/nbd/server.ts'
import { Engine } from './engine.ts'
import { nbdServerOf } from './nbd/server.ts'
import { surfaces } from './surfaces.ts'
import { stepMsMax, type Surface } from './trial.ts'

/** A defect that shows in the device alone, planted below the server. */
class Forgetful extends MemoryDriver {
  override submit(request: Request): void {
    if (request.operation === Operation.trim) request.complete()
    else super.submit(request)
  }
}

/** A defect, planted around the server. */
interface Defect {
  /** What comes in is handed on, or something else is done. */
  readonly landed?: (handler: ConnectionHandler, bytes: number) => void
  /** The same for what goes out. */
  readonly said?: (bytes: Buffer) => Buffer
  readonly accepted?: (context: ServiceContext) => void
}

/** The server with a defect. */
function serverWith({ landed, said, accepted }: Defect): Surface {
  return nbdServerOf((context): Service => {
    const service = new NbdService(context)
    const accept = (connection: Connection, entrance: Entrance): ConnectionHandler | null => {
      accepted?.(context)
      const sender = said === undefined ? connection : changing(connection, said)
      const handler = service.accept(sender, entrance)
      if (handler === null || landed === undefined) return handler
      return {
        landing: () => handler.landing(),
        landed: (bytes) => landed(handler, bytes),
        sent: () => handler.sent(),
        closed: (reason) => handler.closed(reason),
      }
    }
    return {
      accept,
      clients: () => service.clients(),
      recheck: () => service.recheck(),
      drain: () => service.drain(),
      destroy: () => service.destroy(),
    }
  })
}

/** The connection, with other bytes going out. */
function changing(connection: Connection, said: (bytes: Buffer) => Buffer): Connection {
  const { peer, identity, batchBytes } = connection
  return {
    peer,
    identity,
    batchBytes,
    send: (buffers) => connection.send(buffers.map(said)),
    pause: () => connection.pause(),
    resume: () => connection.resume(),
    end: () => connection.end(),
    destroy: () => connection.destroy(),
  }
}

/** Spoils one byte of what is longer than any message without payload. */
function spoilt(bytes: Buffer, from: number): Buffer {
  const copy = Buffer.from(bytes)
  if (copy.length > from) copy[copy.length - 1]! ^= 1
  return copy
}

function busy(ms: number): void {
  const { user, system } = process.cpuUsage()
  for (;;) {
    const now = process.cpuUsage()
    if (now.user + now.system - user - system > ms * 1000) return
  }
}

const defects: Readonly<Record<string, Defect & { readonly what: RegExp }>> = {
  'keeps memory': {
    accepted: ({ slab }) => void slab.take(4096),
    what: /bytes are held for ever/,
  },
  'keeps room': {
    accepted: ({ admission }) =>
      admission.join(undefined, { admitted: () => undefined }).charge(512),
    what: /bytes stay admitted for ever/,
  },
  'answers with other bytes': {
    said: (bytes) => spoilt(bytes, 60),
    // Which byte it is decides what is wrong.
    what: /^Error: /,
  },
  'throws at a long message': {
    landed: (handler, bytes) => {
      if (bytes > 3000) throw new RangeError('out of range')
      handler.landed(bytes)
    },
    what: /RangeError: out of range/,
  },
  'answers nothing': {
    landed: () => undefined,
    what: /too early|goes on with a client/,
  },
  'takes long': {
    landed: (handler, bytes) => {
      if (bytes > 3000) busy(stepMsMax * 1.5)
      handler.landed(bytes)
    },
    what: /a step takes/,
  },
}

describe('the fuzzer', () => {
  for (const [name, { what, ...defect }] of Object.entries(defects))
    it(`finds a server that ${name}, and finds it again`, async () => {
      const surface = serverWith(defect)
      const engine = new Engine([surface], { seed: 1, cases: 200, findings: 1 })
      await engine.run()
      expect(engine.found).to.have.length(1)
      const [found] = engine.found
      expect(found!.what).to.match(what)
      // What memory was kept the first time is not counted again.
      const again = await new Engine([surface], { seed: 1 }).one(surface, found!.number)
      expect(again?.what ?? 'a step takes').to.match(what)
    })

  it('finds a device that is not equal to the model', async () => {
    const surface = nbdServerOf(
      (context) => new NbdService(context),
      (size, random) => new Forgetful(size, random),
    )
    const engine = new Engine([surface], { seed: 1, cases: 400, findings: 1 })
    await engine.run()
    expect(engine.found[0]?.what).to.match(/not equal to the model|has other bytes/)
  })

  it('finds a rejection that nobody handles', async () => {
    const run = async (): Promise<void> => {
      void Promise.reject(new Error('nobody handles this'))
      await new Promise((resolve) => setImmediate(resolve))
    }
    const engine = new Engine([{ name: 'stray', weight: 1, run }], { seed: 1, cases: 1 })
    await engine.run()
    expect(engine.found.map((found) => found.what.split('\n')[0])).to.deep.equal([
      'Error: nobody handles this',
    ])
  })

  it('does the same for the same seed', async () => {
    const bytesOf = async (seed: number): Promise<number[]> => {
      const engine = new Engine(surfaces.slice(0, 4), { seed, cases: 8 })
      await engine.run()
      return engine.tallies.map(({ bytes }) => bytes)
    }
    const first = await bytesOf(5)
    expect(await bytesOf(5)).to.deep.equal(first)
    expect(await bytesOf(6)).to.not.deep.equal(first)
  })

  it('finds nothing in a few cases of each surface', async () => {
    const engine = new Engine(surfaces, { seed: Date.now() % 1e6, cases: 12 })
    await engine.run()
    for (const surface of surfaces) await surface.close?.()
    expect(engine.found).to.deep.equal([])
    for (const { cases, bytes } of engine.tallies) {
      expect(cases).to.equal(12)
      expect(bytes).to.be.greaterThan(0)
    }
  })
})
