import { expect } from 'chai'
import { StorageError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { GiB } from '../../src/base/size.ts'
import { Device, type Driver, type DriverHost, type Facts } from '../../src/device/device.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { Operation, type Request } from '../../src/device/request.ts'
import { metadataBytes, slotsFor } from '../../src/mirror/layout.ts'
import { MirrorDriver } from '../../src/mirror/mirror.ts'
import { MortalClock } from '../support/clock.ts'
import { read, write } from '../support/io.ts'
import { extentSize, pattern, quick } from './head.ts'
import { SeededRandom } from '../support/seeded.ts'
import { MemoryStore } from '../support/memory-store.ts'

const random = new SeededRandom(13)
/** A bitmap of the larger has more pages than one of the smaller. */
const small = 1 * GiB
const large = 4 * GiB

/** Memory of which only the beginning is seen, until it grows. */
class Growing implements Driver {
  readonly type = 'growing'
  readonly children = []
  fault: (request: Request) => 'dead' | StorageError | null = () => null
  private readonly memory: MemoryDriver
  private size: number
  private facts!: Facts
  private host!: DriverHost

  constructor(memory: MemoryDriver, size: number) {
    this.memory = memory
    this.size = size
  }

  open(host: DriverHost): Promise<void> {
    this.host = host
    const online = (facts: Facts): void => {
      this.facts = facts
      host.online({ ...facts, size: this.size })
    }
    return this.memory.open({
      path: host.path,
      clock: host.clock,
      online,
      offline: () => undefined,
    })
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  describe(): Record<string, unknown> {
    return {}
  }

  submit(request: Request): void {
    const fate = this.fault(request)
    if (fate === null) this.memory.submit(request)
    else if (fate !== 'dead') request.fail(fate)
  }

  grow(size: number): void {
    this.size = size
    this.host.online({ ...this.facts, size })
  }
}

class Pair {
  readonly store = new MemoryStore()
  legs: Growing[] = []
  driver!: MirrorDriver
  private clock = new MortalClock()
  private readonly memories = [0, 1].map(() => new MemoryDriver(large, random))

  /** A new head, which finds legs of these sizes; the one before is dead. */
  async open(sizes: readonly number[]): Promise<Device> {
    this.clock.die()
    this.clock = new MortalClock()
    const { clock } = this
    this.legs = this.memories.map((memory, at) => new Growing(memory, sizes[at]!))
    const legs = this.legs.map((driver, at) => {
      const name = `leg${at}`
      return { name, device: new Device(`m/${name}`, driver, clock) }
    })
    const { store } = this
    const [key, log, settings] = ['m', silentLog, quick]
    this.driver = new MirrorDriver({ legs, clock, random, log, store, key, settings })
    const device = new Device('m', this.driver, clock)
    await device.open()
    return device
  }
}

/** Resolves when the device is as it shall be. */
function becomes(device: Device, so: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (!so()) return
      device.unwatch(look)
      resolve()
    }
    device.watch(look)
    look()
  })
}

const mark = pattern(1)

describe('a volume whose maps need more room when it grows', () => {
  const grown = (device: Device): Promise<void> =>
    becomes(device, () => device.state.word === 'online' && device.facts!.size > 3 * GiB)

  it('grows in the end, whenever its head dies while it grows', async function () {
    for (let steps = 0, alive = false; !alive; steps += 5) {
      const pair = new Pair()
      const first = await pair.open([small, small])
      const { size } = first.facts!
      await write(first, size - 4096, mark)
      let left = steps
      let died: () => void
      const dead = new Promise<void>((resolve) => (died = resolve))
      for (const leg of pair.legs)
        leg.fault = () => {
          if (left-- <= 0) died()
          return left < 0 ? 'dead' : null
        }
      for (const leg of pair.legs) leg.grow(large)
      await Promise.race([dead, grown(first)])
      alive = left >= 0
      const second = await pair.open([large, large])
      await grown(second)
      expect((await read(second, size - 4096, 4096)).equals(mark), `${steps}`).to.equal(true)
      const beyond = await read(second, size, 4 * 2 ** 20)
      expect(
        beyond.every((byte) => byte === 0),
        `${steps}`,
      ).to.equal(true)
      await second.close()
    }
  })

  it('grows beside a leg that was large from the start', async () => {
    const pair = new Pair()
    const device = await pair.open([large, small])
    const { size } = device.facts!
    await write(device, size - 4096, mark)
    pair.legs[1]!.grow(large)
    await grown(device)
    expect((await read(device, size - 4096, 4096)).equals(mark)).to.equal(true)
    await device.close()
  })

  it('copies nothing when a leg cannot take the larger maps', async () => {
    const pair = new Pair()
    const device = await pair.open([large, small])
    await write(device, 0, mark)
    const dataSize = device.facts!.size
    // Where the metadata of the size before find their place.
    const moved = large - metadataBytes({ dataSize, extentSize, slots: slotsFor(2) })
    let refused: () => void
    const full = new Promise<void>((resolve) => (refused = resolve))
    pair.legs[1]!.fault = ({ operation, offset }) => {
      if (operation !== Operation.write || offset < small || offset >= moved) return null
      refused()
      return new StorageError('NO_SPACE', 'the disk is full')
    }
    pair.legs[1]!.grow(large)
    await full
    const starts = (): number =>
      pair.driver.history().filter(({ text }) => text.startsWith('started')).length
    await becomes(device, () => device.state.word === 'online' && starts() === 2)
    expect(pair.driver.history().filter(({ resync }) => resync !== undefined)).to.deep.equal([])
    await device.close()
  })
})
