import { expect } from 'chai'
import { once } from 'node:events'
import net from 'node:net'
import { KiB, MiB } from '../../src/base/size.ts'
import type { Device } from '../../src/device/device.ts'
import { Operation } from '../../src/device/request.ts'
import type { Address } from '../../src/net/address.ts'
import {
  Command,
  decodeRequest,
  encodeReply,
  Kind,
  newReplyHeader,
  newRequestHeader,
  replyBytes,
  requestBytes,
  type ReplyHeader,
  type RequestHeader,
} from '../../src/wire/codec.ts'
import {
  decodePreface,
  encodeFacts,
  encodeWelcome,
  factsBytes,
  prefaceBytes,
} from '../../src/wire/hello.ts'
import { statusOf } from '../../src/wire/status.ts'
import { tickingClock } from '../support/clock.ts'
import { submit, type Outcome } from '../support/io.ts'
import { exampleWelcome } from './messages.ts'
import { clientContext, reaches, remote } from './rig.ts'

const size = MiB
const welcome = encodeWelcome({
  ...exampleWelcome,
  features: 0,
  facts: { facts: { ...exampleWelcome.facts!.facts, size, blockSize: 1 }, word: 'online' },
})

type Say = (...parts: Buffer[]) => void

/** What a server does once it was greeted, and for every request. */
interface Manners {
  greet(say: Say, socket: net.Socket): void
  answer?(say: Say, header: RequestHeader, socket: net.Socket): void
  /** Answers as soon as the header is there, though the payload is still to come. */
  readonly hasty?: boolean
}

function reply(header: RequestHeader, changes: Partial<ReplyHeader> = {}, payload = 0): Buffer {
  const bytes = Buffer.alloc(replyBytes + payload)
  const { slot, sequence } = header
  const whole = { ...newReplyHeader(), kind: Kind.reply, slot, sequence, payload, ...changes }
  encodeReply(bytes, 0, whole, false)
  return bytes
}

/** Reads and writes as told: all of zeroes, nothing kept. */
const honest: Required<Pick<Manners, 'answer'>> & Manners = {
  greet: (say) => say(welcome),
  answer: (say, header) => {
    const { command, length } = header
    if (command === Command.ping) say(reply(header, { kind: Kind.pong }))
    else if (command !== Command.pong) say(reply(header, {}, command === Command.read ? length : 0))
  },
}

/** A server whose manners can be changed for connections to come. */
class FakeServer {
  manners: Manners = honest
  connections = 0
  private readonly server: net.Server
  private readonly sockets = new Set<net.Socket>()

  constructor() {
    this.server = net.createServer({ noDelay: true }, (socket) => this.serve(socket))
  }

  async start(): Promise<number> {
    this.server.listen(0, '127.0.0.1')
    await once(this.server, 'listening')
    return (this.server.address() as net.AddressInfo).port
  }

  async stop(): Promise<void> {
    this.drop()
    this.server.close()
    await once(this.server, 'close')
  }

  drop(): void {
    for (const socket of this.sockets) socket.destroy()
  }

  private serve(socket: net.Socket): void {
    const { manners } = this
    let bytes = Buffer.alloc(0)
    let greeted = false
    let header: RequestHeader | null = null
    this.connections++
    this.sockets.add(socket)
    const say: Say = (...parts) => void socket.write(Buffer.concat(parts))
    socket.on('error', () => undefined)
    socket.on('close', () => this.sockets.delete(socket))
    socket.on('data', (chunk) => {
      bytes = Buffer.concat([bytes, chunk])
      while (!socket.destroyed) {
        if (!greeted) {
          const preface = bytes.length < prefaceBytes ? '' : decodePreface(bytes, 0)
          if (typeof preface === 'string') return
          bytes = bytes.subarray(prefaceBytes + preface.length)
          greeted = true
          manners.greet(say, socket)
        }
        if (header === null) {
          if (bytes.length < requestBytes) return
          header = newRequestHeader()
          decodeRequest(bytes, 0, header, false)
          bytes = bytes.subarray(requestBytes)
          if (manners.hasty === true) manners.answer?.(say, header, socket)
        }
        if (bytes.length < header.payload) return
        bytes = bytes.subarray(header.payload)
        if (manners.hasty !== true) manners.answer?.(say, header, socket)
        header = null
      }
    })
  }
}

const noise = Buffer.alloc(64 * KiB, 0x5a)
const factsOfNothing = Buffer.concat([
  reply(newRequestHeader(), { kind: Kind.facts, payload: factsBytes }),
  Buffer.alloc(factsBytes, 0xff),
])

/** Each breaks the protocol, or never answers: the session has to be given up. */
const illMannered: Readonly<Record<string, Manners>> = {
  'talks endlessly': {
    greet: (_, socket) => {
      const pour = (): void => {
        while (!socket.destroyed && socket.write(noise));
      }
      socket.on('drain', pour)
      pour()
    },
  },
  'has another magic': { greet: (say) => say(Buffer.from('NBDMAGICIHAVEOPT'), noise) },
  'has a welcome without end': {
    greet: (say) => {
      const long = Buffer.from(welcome)
      long.writeUInt32LE(0x7fff_ffff, 12)
      say(long, noise)
    },
  },
  'has a welcome with a wrong checksum': {
    greet: (say) => {
      const wrong = Buffer.from(welcome)
      wrong[50]! ^= 1
      say(wrong)
    },
  },
  'has a welcome with impossible facts': {
    greet: (say) => {
      const { facts } = exampleWelcome.facts!
      const impossible = { ...facts, blockSize: 7 }
      say(encodeWelcome({ ...exampleWelcome, facts: { facts: impossible, word: 'online' } }))
    },
  },
  'has blocks larger than any device': {
    greet: (say) => {
      const { facts } = exampleWelcome.facts!
      const coarse = { ...facts, blockSize: MiB, payloadMax: MiB, writeZeroes: 'emulated' as const }
      say(encodeWelcome({ ...exampleWelcome, facts: { facts: coarse, word: 'online' } }))
    },
  },
  'speaks another version': {
    greet: (say) => {
      const other = Buffer.from(welcome)
      other.writeUInt16LE(2, 8)
      say(other)
    },
  },
  'says nothing': { greet: () => undefined },
  'closes at once': { greet: (_, socket) => socket.destroy() },
  'falls silent after the welcome': { greet: (say) => say(welcome) },
  'has more bytes than were asked for': reads((say, header) =>
    say(reply(header, {}, header.length + 1)),
  ),
  'has fewer bytes than were asked for': reads((say, header) =>
    say(reply(header, {}, header.length - 1)),
  ),
  'has half a reply and closes': reads((_, header, socket) => {
    socket.write(reply(header, {}, header.length).subarray(0, 30), () => socket.destroy())
  }),
  'has a sentence that is too long': reads((say, header) =>
    say(reply(header, { status: 7 }, 5000)),
  ),
  'has reserved bytes set': reads((say, header) =>
    say(reply(header, { payloadChecksum: 5 }, header.length)),
  ),
  'tells facts that no device can have': reads((say) => say(factsOfNothing)),
}

/** Reads are answered as told, everything else as it should be. */
function reads(answer: Required<Manners>['answer']): Manners {
  return {
    ...honest,
    answer: (say, header, socket) => {
      if (header.command === Command.read) answer(say, header, socket)
      else honest.answer(say, header, socket)
    },
  }
}

describe('a client and a server that', () => {
  /** Connecting has the time that a busy machine needs: nobody waits for the end of it. */
  const impatient = { pingInterval: 40, pingTimeout: 150, connectTimeout: 10_000, hold: 400 }
  let server: FakeServer
  let address: Address
  let device: Device

  beforeEach(async () => {
    server = new FakeServer()
    address = { kind: 'tcp', host: '127.0.0.1', port: await server.start() }
    device = remote(address, 'x', impatient)
  })

  afterEach(async () => {
    await device.close()
    await server.stop()
  })

  const ask = (operation: Operation, length = 4 * KiB): Promise<Outcome> => {
    const segments = operation === Operation.write ? [Buffer.alloc(length, 7)] : []
    return submit(device, operation, 0, length, 0, segments)
  }

  for (const [name, manners] of Object.entries(illMannered))
    it(name, async () => {
      await device.open()
      server.manners = manners
      const began = performance.now()
      server.drop()
      await reaches(device, ({ state }) => state.word !== 'online')
      const before = server.connections
      expect((await ask(Operation.read)).error?.code).to.equal('UNAVAILABLE')
      // Two connections each time, and pauses that grow: 50, 100, 200 ms, less up to a half.
      const pauses = Math.log2((performance.now() - began) / 25 + 1)
      expect(server.connections - before).to.be.at.most(2 * (Math.ceil(pauses) + 2))
      server.manners = honest
      server.drop()
      await readAgain()
    })

  /** Resolves when a read was answered, however often a busy machine is given up before. */
  async function readAgain(): Promise<void> {
    for (;;) {
      await reaches(device, ({ state }) => state.word === 'online')
      const { error } = await ask(Operation.read)
      if (error === null) return
      expect(error.code).to.equal('UNAVAILABLE')
    }
  }

  it('answers what nobody asked, and twice', async () => {
    server.manners = {
      ...honest,
      answer: (say, header, socket) => {
        const stray = { ...header, slot: 900, sequence: 5 }
        say(reply(stray, {}, 70_000), reply({ ...header, sequence: 99 }, {}, 3))
        honest.answer(say, header, socket)
        honest.answer(say, header, socket)
        say(reply(header, { kind: 200 }, 1000))
      },
    }
    device = remote(address, 'x')
    await device.open()
    for (let turn = 0; turn < 5; turn++) {
      expect((await ask(Operation.read)).data.equals(Buffer.alloc(4 * KiB))).to.equal(true)
      expect((await ask(Operation.write)).error).to.equal(null)
    }
    expect(device.state.word).to.equal('online')
  })

  it('tells of changes without end: leaves every turn of the loop to others', async () => {
    const { facts } = exampleWelcome.facts!
    const changes = 1000
    const changed = Array.from({ length: changes }, (_, at) => {
      const bytes = Buffer.concat([
        reply(newRequestHeader(), { kind: Kind.facts, payload: factsBytes }),
        Buffer.alloc(factsBytes),
      ])
      const larger = { ...facts, size: size + at + 1, blockSize: 1 }
      encodeFacts(bytes, replyBytes, { facts: larger, word: 'online' })
      return bytes
    })
    server.manners = { ...honest, greet: (say) => say(welcome, ...changed) }
    const patient = { connections: 1, pingInterval: 100_000, pingTimeout: 1_000_000 }
    const other = remote(address, 'x', patient, clientContext('landing', tickingClock()))
    let inTurn = 0
    let most = 0
    other.watch(() => (most = Math.max(most, ++inTurn)))
    await other.open()
    while (other.facts!.size < size + changes) {
      inTurn = 0
      await new Promise(setImmediate)
    }
    expect(most).to.be.at.most(20)
    expect((await submit(other, Operation.read, 0, 4 * KiB)).error).to.equal(null)
    await other.close()
  })

  it('has a status that does not fit the range', async () => {
    const runs = (pairs: readonly (readonly [number, number])[]): Buffer =>
      Buffer.concat(
        pairs.map(([length, flags]) => {
          const run = Buffer.alloc(8)
          run.writeUInt32LE(length, 0)
          run.writeUInt32LE(flags, 4)
          return run
        }),
      )
    for (const bytes of [runs([[4097, 0]]), runs([[0, 0]]), Buffer.alloc(7), Buffer.alloc(0)]) {
      server.manners = {
        ...honest,
        answer: (say, header) => {
          const head = reply(header, { payload: bytes.length })
          say(head.subarray(0, replyBytes), bytes)
        },
      }
      const other = remote(address, 'x', { ...impatient, hold: 50 })
      await other.open()
      const outcome = await submit(other, Operation.status, 0, 4 * KiB)
      expect(outcome.error?.code).to.equal('UNAVAILABLE')
      await other.close()
    }
  })

  it('refuses a write before it took it in', async () => {
    server.manners = {
      ...honest,
      hasty: true,
      answer: (say, header) => say(reply(header, { status: statusOf('NO_SPACE') }, 0)),
    }
    device = remote(address, 'x')
    await device.open()
    const outcomes = await Promise.all([1, 2, 3].map(() => ask(Operation.write, MiB)))
    for (const outcome of outcomes) expect(outcome.error?.code).to.equal('NO_SPACE')
    expect(device.state.word).to.equal('online')
  })
})
