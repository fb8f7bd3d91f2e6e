import { expect } from 'chai'
import { Device } from '../../src/device/device.ts'
import type { Connection, ConnectionHandler } from '../../src/net/network.ts'
import { conformance } from '../support/conformance.ts'
import { Checker } from './checker.ts'
import { SimClock } from './clock.ts'
import { Dice } from './dice.ts'
import { DiskDriver } from './disk.ts'
import { Machine, type Process } from './machine.ts'
import { Medium, sectorBytes } from './medium.ts'
import { SimNetwork } from './network.ts'

function worldOf(seed: number): { clock: SimClock; network: SimNetwork; dice: Dice } {
  const dice = new Dice(seed)
  const clock = new SimClock()
  return { clock, network: new SimNetwork(clock, dice), dice }
}

conformance('a simulated disk', async (size) => {
  const { clock, network, dice } = worldOf(1)
  const machine = new Machine('m', clock, network, dice)
  const process = machine.start('p')
  const driver = new DiskDriver(new Medium('disk', machine, size), process)
  const device = new Device('disk', driver, process.clock)
  await device.open()
  let running = true
  const pump = async (): Promise<void> => {
    while (running) await clock.run(clock.time + 1000)
  }
  void pump()
  return { device, dispose: () => void (running = false) }
})

/** Sends numbered bytes and expects to receive them; keeps what it got. */
class Teller implements ConnectionHandler {
  readonly connection: Connection
  readonly place = Buffer.alloc(300)
  received: Buffer[] = []
  sends = 0
  over: boolean | null = null

  constructor(connection: Connection) {
    this.connection = connection
  }

  landing(): Buffer {
    return this.place
  }

  landed(bytes: number): void {
    this.received.push(Buffer.from(this.place.subarray(0, bytes)))
  }

  sent(): void {
    this.sends++
  }

  closed(): void {
    expect(this.over, 'closed once').to.equal(null)
    this.over = true
  }

  get text(): string {
    return Buffer.concat(this.received).toString()
  }
}

class Pair {
  readonly clock: SimClock
  readonly network: SimNetwork
  readonly client: Process
  readonly server: Process
  here: Teller | null = null
  there: Teller | null = null
  failure = ''

  constructor(seed: number) {
    const { clock, network, dice } = worldOf(seed)
    this.clock = clock
    this.network = network
    this.client = new Machine('a', clock, network, dice).start('client')
    this.server = new Machine('b', clock, network, dice).start('server')
    network.crumbs = 0.9
    network.listen(this.server, 1, (connection) => (this.there = new Teller(connection)))
  }

  async connect(port = 1): Promise<void> {
    const attach = (connection: Connection) => (this.here = new Teller(connection))
    const address = { kind: 'tcp', host: 'b', port } as const
    this.client.network.connect(address, 100, attach, (error) => (this.failure = error.code))
    await this.clock.run(this.clock.time + 1000)
  }
}

describe('a simulated network', () => {
  it('delivers what was sent, in order, and says when it let go of it', async () => {
    const pair = new Pair(2)
    await pair.connect()
    const texts = Array.from({ length: 50 }, (_, at) => `part ${at};`.repeat(40))
    for (const text of texts) pair.here!.connection.send([Buffer.from(text), Buffer.from('!')])
    pair.there!.connection.send([Buffer.from('back')])
    await pair.clock.run(pair.clock.time + 1000)
    expect(pair.there!.text).to.equal(texts.map((text) => `${text}!`).join(''))
    expect(pair.here!.text).to.equal('back')
    expect(pair.here!.sends).to.equal(50)
  })

  it('refuses, and times out', async () => {
    const pair = new Pair(3)
    await pair.connect(2)
    expect(pair.failure).to.equal('IO')
    pair.network.cut('a', 'b')
    await pair.connect()
    expect(pair.failure).to.equal('TIMEOUT')
    expect(pair.here).to.equal(null)
  })

  it('keeps the order of what a partition held up', async () => {
    const pair = new Pair(4)
    await pair.connect()
    pair.here!.connection.send([Buffer.from('one ')])
    pair.network.cut('a', 'b')
    pair.here!.connection.send([Buffer.from('two ')])
    await pair.clock.run(pair.clock.time + 50)
    pair.here!.connection.send([Buffer.from('three')])
    await pair.clock.run(pair.clock.time + 50)
    pair.network.heal('a', 'b')
    // Who kept trying finds out as long after the outage as it took.
    await pair.clock.run(pair.clock.time + 200)
    expect(pair.there!.text).to.equal('one two three')
  })

  it('delivers what the kernel took after the program has gone on: a ghost', async () => {
    const pair = new Pair(5)
    pair.network.resetOnClose = 0
    await pair.connect()
    pair.network.cut('a', 'b')
    pair.here!.connection.send([Buffer.from('ghost')])
    await pair.clock.run(pair.clock.time + 50)
    pair.here!.connection.destroy()
    await pair.clock.run(pair.clock.time + 50)
    expect(pair.here!.over).to.equal(true)
    expect(pair.there!.over).to.equal(null)
    pair.network.heal('a', 'b')
    await pair.clock.run(pair.clock.time + 50)
    expect(pair.there!.text).to.equal('ghost')
    expect(pair.there!.over).to.equal(true)
  })

  it('leaves one side thinking that it lives, until it speaks', async () => {
    const pair = new Pair(6)
    await pair.connect()
    pair.network.between('a', 'b')[0]!.reset()
    await pair.clock.run(pair.clock.time + 50)
    expect(pair.here!.over).to.equal(true)
    expect(pair.there!.over).to.equal(null)
    pair.there!.connection.send([Buffer.from('hello?')])
    await pair.clock.run(pair.clock.time + 50)
    expect(pair.there!.over).to.equal(true)
  })
})

describe('a simulated disk that loses power', () => {
  it('keeps what was flushed, and of the rest any newer version of each sector', () => {
    const outcomes = new Set<number>()
    for (let seed = 1; seed < 60; seed++) {
      const { clock, network, dice } = worldOf(seed)
      const medium = new Medium('disk', new Machine('m', clock, network, dice), 4 * sectorBytes)
      for (const value of [1, 2, 3, 4]) {
        medium.write(0, Buffer.alloc(sectorBytes, value))
        if (value === 2) medium.flush(medium.order)
      }
      medium.powerLost()
      outcomes.add(medium.content[0]!)
    }
    expect([...outcomes].sort()).to.deep.equal([2, 3, 4])
  })
})

describe('the checker', () => {
  it('takes the old or the new value of a write that was cut off, then only what it saw', () => {
    for (const shown of [0, 1]) {
      const checker = new Checker(4)
      const write = checker.beginWrite(1, 1, false)
      checker.endWrite(write, false, false)
      const bytes = shown === 0 ? Buffer.alloc(sectorBytes) : checker.fill(write)
      const other = shown === 1 ? Buffer.alloc(sectorBytes) : checker.fill(write)
      checker.endRead(checker.beginRead(1, 1), bytes)
      checker.endRead(checker.beginRead(1, 1), bytes)
      expect(() => checker.endRead(checker.beginRead(1, 1), other)).to.throw('reads as')
    }
  })

  it('takes nothing back that was flushed, whatever was lost', () => {
    const checker = new Checker(1)
    const first = checker.beginWrite(0, 1, false)
    checker.endWrite(first, true, false)
    checker.endFlush(checker.beginFlush())
    const second = checker.beginWrite(0, 1, false)
    checker.endWrite(second, true, false)
    checker.allowLoss(0)
    checker.endRead(checker.beginRead(0, 1), checker.fill(first))
    expect(() => checker.endRead(checker.beginRead(0, 1), checker.fill(second))).to.throw('reads')
    checker.allowLoss(0)
    expect(() => checker.endRead(checker.beginRead(0, 1), Buffer.alloc(sectorBytes))).to.throw()
  })

  it('knows a sector that stands in another one’s place', () => {
    const checker = new Checker(4)
    const write = checker.beginWrite(0, 2, false)
    checker.endWrite(write, true, false)
    const swapped = checker.fill(write).subarray(sectorBytes)
    expect(() => checker.endRead(checker.beginRead(0, 1), swapped)).to.throw('nobody wrote')
  })
})
