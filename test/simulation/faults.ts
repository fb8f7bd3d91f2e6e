import { KiB } from '../../src/base/size.ts'
import { Operation } from '../../src/device/request.ts'
import { superblockBytes } from '../../src/mirror/layout.ts'
import { Ambush } from './ambush.ts'
import type { Dice } from './dice.ts'
import type { FaultKind } from './plan.ts'
import { sectorBytes } from './medium.ts'
import { manage } from './manage.ts'
import { PutBack } from './put-back.ts'
import type { Leg } from './trees.ts'
import type { World } from './world.ts'

const diskFaults = [
  'readErrors',
  'writeErrors',
  'slowDisk',
  'stragglers',
  'hangDisk',
  'fullDisk',
  'flushFails',
] as const
type DiskFault = (typeof diskFaults)[number]
const networkFaults = ['partition', 'oneWay', 'reset', 'halfOpen', 'slowLink', 'stall'] as const
type NetworkFault = (typeof networkFaults)[number]

/** The kind, if it is one of these. */
function among<K extends FaultKind>(kinds: readonly K[], kind: FaultKind): K | undefined {
  return kinds.find((one) => one === kind)
}

/** Of one world: reading all of it takes longer each time. */
const growthsMax = 2
/** More than a leg's metadata, which must not land on where they were. */
const growthBytes = 640 * KiB

/** Milliseconds between two looks whether a truce is over. */
const truceMs = 20

/** Goes wrong by chance, with the kinds that the plan allows; and knows how to end all of it. */
export class Faults {
  happened = 0
  private growths = 0
  private readonly putBack: PutBack
  private readonly world: World
  private readonly dice: Dice
  private running = false
  private stopped = false
  /** How to end what lasts, by what it is; a second fault of one kind in one place is not begun. */
  private readonly lasting = new Map<string, () => void>()

  constructor(world: World, dice: Dice) {
    this.world = world
    this.dice = dice
    this.putBack = new PutBack(world, dice)
  }

  start(): void {
    this.running = true
    if (this.world.plan.faults.length > 0) this.schedule()
  }

  /** Whether things may go wrong now: neither before, nor after, nor in a truce. */
  get active(): boolean {
    return this.running
  }

  /** Whether nothing goes wrong ever again. */
  get over(): boolean {
    return this.stopped
  }

  /** Ends everything that lasts: from now on the world is well. */
  stop(): void {
    this.running = false
    this.stopped = true
    for (const end of [...this.lasting.values()]) end()
    const { world } = this
    world.endRivals()
    if (!world.headMachine.up) world.headMachine.boot()
    if (world.head === null) world.startHead()
    for (const leg of world.legs) {
      // What lies in wait for the next flush lasts as well.
      leg.medium.flushFails = false
      if (leg.target === null) continue
      if (!leg.machine.up) leg.machine.boot()
      if (leg.target.process?.alive !== true) void leg.target.start()
    }
  }

  /** Ends what lasts, and lets nothing happen until `over`, or until faults end. */
  truce(over: () => boolean): void {
    this.running = false
    for (const end of [...this.lasting.values()]) end()
    const look = (): void => {
      if (this.stopped) return
      if (over()) this.start()
      else this.world.clock.after(truceMs, null, look)
    }
    look()
  }

  crashTarget(leg: Leg): void {
    this.world.trace.note(`target of ${leg.name} loses power`)
    leg.machine.crash()
  }

  bootTarget(leg: Leg): void {
    if (!leg.machine.up) leg.machine.boot()
    if (leg.target!.process?.alive === true) return
    this.world.trace.note(`target of ${leg.name} starts`)
    void leg.target!.start()
  }

  private schedule(): void {
    const pause = -Math.log(1 - this.dice.fraction()) * this.world.plan.faultPause
    this.world.clock.after(pause, null, () => {
      if (!this.running) return
      this.inject(this.dice.pick(this.world.plan.faults))
      this.schedule()
    })
  }

  /** Has something go wrong in a while, unless faults have ended by then. */
  strike(kind: FaultKind, leg: Leg, delay: number): void {
    this.world.clock.after(delay, null, () => {
      if (this.running) this.inject(kind, leg)
    })
  }

  private inject(kind: FaultKind, leg = this.dice.pick(this.world.legs)): void {
    this.happened++
    const ofDisk = among(diskFaults, kind)
    const ofNetwork = among(networkFaults, kind)
    if (ofDisk !== undefined) this.disturbDisk(leg, ofDisk)
    else if (ofNetwork !== undefined) this.disturbNetwork(leg, ofNetwork)
    else this.strikeAt(kind as Exclude<FaultKind, DiskFault | NetworkFault>, leg)
  }

  private strikeAt(kind: Exclude<FaultKind, DiskFault | NetworkFault>, leg: Leg): void {
    const { world, dice } = this
    switch (kind) {
      case 'killHead':
      case 'crashHead':
      case 'stopHead':
        this.endHead(kind)
        break
      case 'killTarget':
      case 'crashTarget':
        this.endTarget(leg, kind)
        break
      case 'blackout':
        this.blackout()
        break
      case 'ambush':
        this.ambush(leg)
        break
      case 'grow':
        this.grow()
        break
      case 'takeover':
        this.takeover()
        break
      case 'freezeHead':
      case 'freezeTarget':
        this.freeze(leg, kind)
        break
      case 'detach':
      case 'invalidate':
      case 'verify':
      case 'replace':
        manage(world, leg, kind, dice)
        break
      case 'remove':
      case 'restore':
      case 'trust':
        world.operator.act(leg, kind)
        break
      case 'stateFails':
        this.last('state', 'the state directory fails', () => {
          world.state.failing = true
          return () => (world.state.failing = false)
        })
        break
      case 'saveHangs':
        this.disturbSaves()
        break
      case 'twoBlows':
        this.last('two blows', 'an ambush', () => new Ambush(world, dice).start())
        break
      case 'rollBack':
        this.putBack.act(leg)
        break
      case 'olderHead':
        if (dice.chance(0.5)) world.killHead('killed')
        world.returnOlder(dice)
    }
  }

  /** The state directory is slow, or hangs: until that ends, or for ever. */
  private disturbSaves(): void {
    const { world, dice } = this
    const { state } = world
    this.last('state', 'saves take long', () => {
      if (dice.chance(0.4)) {
        state.slowness = dice.pick([10, 100, 1000])
        return () => (state.slowness = 1)
      }
      const forgotten = dice.chance(0.5)
      state.hung = true
      return () => {
        state.unhang(forgotten)
      }
    })
  }

  private endHead(kind: 'killHead' | 'crashHead' | 'stopHead'): void {
    const { world } = this
    if (world.head === null) return
    if (kind === 'stopHead') {
      world.stopHead()
      return
    }
    this.last('head', kind, () => {
      world.killHead(kind === 'killHead' ? 'killed' : 'crashed')
      return () => {
        if (!world.headMachine.up) world.headMachine.boot()
        if (world.head === null) world.startHead()
      }
    })
  }

  private endTarget(leg: Leg, kind: 'killTarget' | 'crashTarget'): void {
    const { target } = leg
    if (target?.process?.alive !== true) return
    this.last(`target ${leg.name}`, `${kind} ${leg.name}`, () => {
      if (kind === 'killTarget') leg.machine.kill(target.process!)
      else this.crashTarget(leg)
      return () => this.bootTarget(leg)
    })
  }

  private blackout(): void {
    const { world } = this
    this.last('blackout', 'everything loses power', () => {
      world.killHead('crashed')
      if (world.headMachine.up) world.headMachine.crash()
      for (const leg of world.legs) if (leg.target !== null && leg.machine.up) this.crashTarget(leg)
      // They return one by one, in any order.
      for (const leg of world.legs)
        if (leg.target !== null)
          world.clock.after(this.dice.skewed(1, 30_000), null, () => this.bootTarget(leg))
      return () => {
        if (!world.headMachine.up) world.headMachine.boot()
        if (world.head === null) world.startHead()
      }
    })
  }

  /** Another machine takes over, though the head before may live; sometimes two do at once. */
  private takeover(): void {
    const { world, dice } = this
    world.takeOver()
    if (dice.chance(0.3))
      world.clock.after(dice.skewed(0, 30), null, () => {
        if (this.running) world.takeOver()
      })
  }

  /** Every leg gets larger, one after the other. */
  private grow(): void {
    const { world, dice } = this
    if (world.plan.settings.size !== null || this.growths++ >= growthsMax) return
    this.last('growth', 'growth of all legs', () => {
      const small = new Set(world.legs)
      const enlarge = (leg: Leg): void => {
        if (!small.delete(leg)) return
        world.trace.note(`${leg.name} grows`)
        leg.medium.grow(growthBytes)
      }
      for (const leg of world.legs)
        world.clock.after(dice.skewed(0, world.plan.trouble), null, () => {
          enlarge(leg)
        })
      return () => {
        for (const leg of world.legs) enlarge(leg)
      }
    })
  }

  /** Strikes while the leg writes something that matters, so that it is torn, or half done. */
  private ambush(leg: Leg): void {
    const { world, dice } = this
    const { medium } = leg
    const kind = dice.pick(['superblock', 'map', 'data', 'flush'] as const)
    const blow = dice.pick([
      'killHead',
      'crashHead',
      'crashTarget',
      'killTarget',
      'blackout',
    ] as const)
    const superblocks = medium.size - 2 * superblockBytes
    const matches = (operation: Operation, offset: number): boolean => {
      if (kind === 'flush') return operation === Operation.flush
      if (operation !== Operation.write) return false
      if (kind === 'superblock') return offset >= superblocks
      const data = offset < world.checker.size * sectorBytes
      return kind === 'data' ? data : !data && offset < superblocks
    }
    this.last(`ambush ${leg.name}`, `waiting for a ${kind} of ${leg.name}`, () => {
      medium.ambush = (operation, offset) => {
        if (!matches(operation, offset)) return
        medium.ambush = null
        this.strike(blow, leg, dice.skewed(0, 2 * medium.latency[1]))
      }
      return () => (medium.ambush = null)
    })
  }

  private disturbNetwork(leg: Leg, kind: NetworkFault): void {
    if (leg.target === null) return
    const { network } = this.world
    const head = this.world.headMachine.name
    const [a, b] = this.dice.chance(0.5) ? [head, leg.name] : [leg.name, head]
    if (kind === 'stall') {
      this.world.trace.note(`connections from ${a} to ${b} stall`)
      const { trouble } = this.world.plan
      for (const end of network.between(a, b))
        if (this.dice.chance(0.6)) end.stall(this.dice.skewed(1, trouble * 2))
      return
    }
    if (kind === 'reset' || kind === 'halfOpen') {
      this.world.trace.note(`${kind} of a connection at ${a} to ${b}`)
      for (const end of network.between(a, b))
        if (this.dice.chance(0.6)) {
          end.reset()
          if (kind === 'reset') end.other.reset()
        }
      return
    }
    this.last(`link ${leg.name}`, `${kind} of ${a} and ${b}`, () => {
      if (kind === 'slowLink') return this.slow(a, b)
      network.cut(a, b)
      if (kind === 'partition') network.cut(b, a)
      return () => {
        network.heal(a, b)
        network.heal(b, a)
      }
    })
  }

  private slow(a: string, b: string): () => void {
    const link = this.world.network.link(a, b)
    const { latency, bytesPerMs } = link
    link.latency = latency * 100
    link.bytesPerMs = bytesPerMs / 100
    return () => {
      link.latency = latency
      link.bytesPerMs = bytesPerMs
    }
  }

  private freeze(leg: Leg, kind: 'freezeHead' | 'freezeTarget'): void {
    const process = kind === 'freezeHead' ? this.world.head?.process : leg.target?.process
    if (process?.alive !== true) return
    const name = `${process.name} ${kind === 'freezeHead' ? '' : leg.name}`
    this.last(`freeze ${name}`, `${name} is frozen`, () => {
      process.machine.freeze(process)
      return () => process.machine.thaw(process)
    })
  }

  private disturbDisk(leg: Leg, kind: DiskFault): void {
    const { medium, name } = leg
    this.last(`${kind} ${name}`, `${kind} on ${name}`, () => {
      switch (kind) {
        case 'readErrors':
        case 'writeErrors': {
          const from = this.dice.below(medium.size)
          const to = from + this.dice.pick([512, 4096, 100_000, medium.size])
          const defect = { from, to, reads: kind === 'readErrors', writes: kind === 'writeErrors' }
          medium.defects.push(defect)
          return () => medium.defects.splice(medium.defects.indexOf(defect), 1)
        }
        case 'slowDisk': {
          const { latency } = medium
          medium.latency = [latency[0] * 50, latency[1] * 200]
          return () => (medium.latency = latency)
        }
        case 'stragglers':
          medium.stragglers = this.dice.pick([0.02, 0.1, 0.3])
          medium.stragglerMs = this.dice.pick([10, 300, 3000])
          return () => (medium.stragglers = 0)
        case 'hangDisk':
          medium.hung = true
          return () => medium.unhang()
        case 'fullDisk':
          medium.full = true
          return () => (medium.full = false)
        case 'flushFails':
          medium.flushFails = true
          medium.flushFailsOnce = medium.dropsUnwritten && this.dice.chance(0.5)
          return () => (medium.flushFails = false)
      }
    })
  }

  /** Begins something that ends by itself some time later, or with all faults. */
  private last(what: string, text: string, begin: () => () => void): void {
    if (this.lasting.has(what)) return
    const { world } = this
    world.trace.note(`${text} begins`)
    const undo = begin()
    const end = (): void => {
      // A truce ended it, and another one of the kind may have begun.
      if (this.lasting.get(what) !== end) return
      this.lasting.delete(what)
      world.trace.note(`${text} ends`)
      undo()
    }
    this.lasting.set(what, end)
    world.clock.after(this.dice.skewed(0.1, world.plan.trouble * 2), null, end)
  }
}
