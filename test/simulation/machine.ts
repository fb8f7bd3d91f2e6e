import type { Clock } from '../../src/base/clock.ts'
import type { Network } from '../../src/net/network.ts'
import { ProcessClock, type Owner, type SimClock, type SimEvent } from './clock.ts'
import type { Dice } from './dice.ts'
import type { Medium } from './medium.ts'
import { ProcessNetwork, type SimNetwork } from './network.ts'
import { PoisonSlab } from './slab.ts'

/** Milliseconds since 1970 when the world begins, give or take what a clock is wrong by. */
const worldBegan = 1_700_000_000_000
const wallErrorMax = 7 * 24 * 3600_000

/** A running program: what it set in motion stops with it. */
export class Process implements Owner {
  readonly machine: Machine
  readonly name: string
  alive = true
  frozen = false
  readonly held: SimEvent[] = []
  /** Operations of disks that it was not told the end of. */
  owed = 0
  readonly clock: Clock
  readonly dice: Dice
  readonly slab = new PoisonSlab()
  readonly network: Network

  constructor(machine: Machine, name: string) {
    const { dice, clock, network } = machine
    this.machine = machine
    this.name = name
    this.dice = dice.fork()
    const wall = worldBegan + dice.between(-wallErrorMax, wallErrorMax)
    this.clock = new ProcessClock(clock, this, dice.between(0, 1e6), wall)
    this.network = new ProcessNetwork(network, this)
  }
}

/** A computer with a kernel, disks and processes. */
export class Machine {
  readonly name: string
  readonly clock: SimClock
  readonly dice: Dice
  readonly network: SimNetwork
  readonly media: Medium[] = []
  up = true
  /** When it last lost power, milliseconds. */
  crashedAt = -Infinity
  /** 32 hex digits; another after every boot. */
  bootId: string
  private readonly processes = new Set<Process>()

  constructor(name: string, clock: SimClock, network: SimNetwork, dice: Dice) {
    this.name = name
    this.clock = clock
    this.network = network
    this.dice = dice
    this.bootId = dice.bytes(16).toString('hex')
    network.machines.set(name, this)
  }

  start(name: string): Process {
    const process = new Process(this, name)
    this.processes.add(process)
    return process
  }

  /** SIGKILL: the kernel closes what the process had open; its disks keep their caches. */
  kill(process: Process): void {
    if (!process.alive) return
    process.alive = false
    process.held.length = 0
    this.processes.delete(process)
    this.network.processEnded(process)
    for (const medium of this.media) medium.processEnded(process)
  }

  /** Stops a process's code, not its kernel: packets are accepted, timers wait. */
  freeze(process: Process): void {
    process.frozen = true
  }

  thaw(process: Process): void {
    if (!process.frozen) return
    process.frozen = false
    this.clock.thaw(process)
  }

  /** Power loss: processes and connections are gone, disks lose of their caches what they like. */
  crash(): void {
    this.up = false
    this.crashedAt = this.clock.time
    for (const process of this.processes) {
      process.alive = false
      process.held.length = 0
    }
    this.processes.clear()
    this.network.machineCrashed(this)
    for (const medium of this.media) medium.powerLost()
  }

  boot(): void {
    this.up = true
    this.bootId = this.dice.bytes(16).toString('hex')
    this.network.machineBooted(this)
  }
}
