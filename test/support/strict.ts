import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import type { Driver, DriverHost, Facts } from '../../src/device/device.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { Operation, type Request } from '../../src/device/request.ts'
import { SeededRandom } from './seeded.ts'

/**
 * A driver that can do as little as `facts` says, answers late and in any order, and fails the test
 * when it is asked for more than it can.
 */
export class StrictDriver implements Driver {
  readonly type = 'strict'
  readonly children = []
  private readonly memory: MemoryDriver
  private readonly limits: Partial<Facts>
  private readonly random: SeededRandom
  private facts: Facts | null = null
  private readonly waiting: Request[] = []
  /** Names of what was asked for, in order. */
  readonly seen: string[] = []
  /** Bytes that cannot be read or written, -1 for none. */
  badByte = -1

  constructor(size: number, limits: Partial<Facts>, random: SeededRandom) {
    this.memory = new MemoryDriver(size, random)
    this.limits = limits
    this.random = random
  }

  open(host: DriverHost): Promise<void> {
    return this.memory.open({
      ...host,
      path: host.path,
      online: (facts) => {
        this.facts = { ...facts, ...this.limits }
        host.online(this.facts)
      },
      offline: () => undefined,
    })
  }

  close(): Promise<void> {
    expect(this.waiting.length, 'closed without requests').to.equal(0)
    return Promise.resolve()
  }

  describe(): Record<string, unknown> {
    return {}
  }

  submit(request: Request): void {
    this.check(request, this.facts!)
    this.seen.push(`${request.operation} ${request.offset}+${request.length} ${request.flags}`)
    this.waiting.push(request)
    if (this.waiting.length === 1) setImmediate(this.answer)
  }

  private readonly answer = (): void => {
    while (this.waiting.length > 0) {
      const at = this.random.below(this.waiting.length)
      const [request] = this.waiting.splice(at, 1)
      const { offset, length, operation } = request!
      const bad = operation <= Operation.write && offset <= this.badByte
      if (bad && this.badByte < offset + length)
        request!.fail(new StorageError('IO', `bad byte in ${offset}+${length}`))
      else this.memory.submit(request!)
    }
  }

  private check(request: Request, facts: Facts): void {
    const { operation, offset, length, flags } = request
    expect(offset % facts.blockSize, 'aligned').to.equal(0)
    expect(length % facts.blockSize, 'aligned').to.equal(0)
    expect(offset + length).to.be.at.most(facts.size)
    if (facts.fua !== 'native') expect(flags & 1, 'no FUA').to.equal(0)
    if (operation <= Operation.write) expect(length).to.be.at.most(facts.payloadMax)
    if (operation === Operation.write) expect(request.payloadBytes).to.equal(length)
    if (operation === Operation.writeZeroes) expect(facts.writeZeroes).to.equal('native')
    if (operation === Operation.trim) expect(facts.trim).to.equal('native')
    if (operation === Operation.status) expect(facts.status).to.equal('native')
  }
}
