import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { Latency } from '../../src/device/latency.ts'
import { Operation, Request } from '../../src/device/request.ts'
import { ManualClock } from '../support/clock.ts'

describe('the latency of a device', () => {
  const owner = { completed: () => undefined }
  let clock: ManualClock
  let latency: Latency
  let counts: number[]
  beforeEach(() => {
    clock = new ManualClock()
    latency = new Latency(clock)
    counts = [0, 0, 0, 0, 0, 0]
  })

  /** A request that takes so many milliseconds. */
  function take(operation: Operation, ms: number, error: StorageError | null = null): void {
    const request = Request.take(operation, 0, 0, 0, owner)
    latency.submitted(request, counts[request.operation]!++)
    clock.advance(ms)
    request.error = error
    latency.completed(request)
    request.complete()
    request.release()
  }

  it('is known after the first request of each operation, and follows those that come', () => {
    expect(latency.of(Operation.write)).to.equal(null)
    take(Operation.write, 2)
    take(Operation.read, 5)
    expect([latency.of(Operation.write), latency.of(Operation.read)]).to.deep.equal([2, 5])
    for (let turn = 0; turn < 100; turn++) take(Operation.write, 100)
    expect(latency.of(Operation.write)).to.be.within(99, 100)
  })

  it('is taken of few requests while they are answered at once, and of all that are slow', () => {
    take(Operation.read, 0)
    clock.advance(1000)
    for (let turn = 0; turn < 31; turn++) take(Operation.read, 40)
    expect(latency.of(Operation.read)).to.equal(0)
    take(Operation.read, 40)
    take(Operation.read, 40)
    expect(latency.of(Operation.read)).to.be.within(17, 18)
  })

  it('is taken of still fewer where very many are answered at once', () => {
    for (let turn = 0; turn < 33; turn++) take(Operation.read, 0)
    for (let turn = 33; turn < 128; turn++) take(Operation.read, 40)
    expect(latency.of(Operation.read)).to.equal(0)
    take(Operation.read, 40)
    expect(latency.of(Operation.read)).to.equal(10)
  })

  it('of one that is not answered is what it has taken already', () => {
    take(Operation.write, 20)
    const request = Request.take(Operation.write, 0, 0, 0, owner)
    latency.submitted(request, counts[request.operation]!++)
    clock.advance(10)
    expect(latency.of(Operation.write)).to.equal(20)
    clock.advance(2990)
    expect(latency.of(Operation.write)).to.equal(3000)
  })

  it('says nothing of requests that failed, nor of long ago', () => {
    take(Operation.write, 1, new StorageError('IO', 'bad'))
    expect(latency.of(Operation.write)).to.equal(null)
    take(Operation.write, 20)
    clock.advance(61_000)
    expect(latency.of(Operation.write)).to.equal(null)
  })
})
