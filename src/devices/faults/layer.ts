import type { Claimed, Device, Driver, DriverHost, Facts, Fencing } from '../../device/device.ts'
import { fencingOf, seenFromAbove } from '../../device/facts.ts'
import { operationNames, type Operation, type Request } from '../../device/request.ts'

export type OperationName = (typeof operationNames)[number]

/** A driver above one device that behaves as that one does, except for what happens to requests. */
export abstract class Layer implements Driver {
  abstract readonly type: string
  readonly children: readonly [Device]
  readonly stamp?: () => Promise<string>
  readonly claim?: (fence: number) => Promise<void>
  readonly claimed?: () => Promise<Claimed>
  protected readonly below: Device
  protected host: DriverHost | null = null

  constructor(below: Device) {
    this.below = below
    this.children = [below]
    const { driver } = below
    if (driver.stamp !== undefined) this.stamp = () => driver.stamp!()
    if (driver.claim !== undefined) this.claim = (fence) => driver.claim!(fence)
    if (driver.claimed !== undefined) this.claimed = () => driver.claimed!()
  }

  fencing(): Fencing {
    return fencingOf([this.below.driver])
  }

  abstract submit(request: Request): void
  abstract describe(): Record<string, unknown>

  open(host: DriverHost): Promise<void> {
    this.host = host
    this.below.watch(this.changed)
    this.update()
    return Promise.resolve()
  }

  close(): Promise<void> {
    this.below.unwatch(this.changed)
    return Promise.resolve()
  }

  protected get path(): string {
    return this.host!.path
  }

  /** Announces the state and facts of this device: called when those of the one below change. */
  protected update(): void {
    const { facts, state, usable } = this.below
    const above = facts !== null && usable ? this.factsAbove(facts) : null
    if (typeof above === 'string') this.host!.offline('failed', above)
    else if (above !== null)
      this.host!.online(above, state.word as 'online' | 'degraded', state.reason)
    else {
      const word = state.word === 'failed' ? 'failed' : 'offline'
      this.host!.offline(word, state.reason, state.code)
    }
  }

  /** The facts of this device from those of the one below; or why it can have none. */
  protected factsAbove(below: Facts): Facts | string {
    return seenFromAbove(below)
  }

  private readonly changed = (): void => {
    this.update()
  }
}

/** Returns a test for the operations that a layer acts on: all, unless some are named. */
export function selects(
  names: readonly OperationName[] | undefined,
): (operation: Operation) => boolean {
  const chosen = operationNames.map((name) => names?.includes(name) ?? true)
  return (operation) => chosen[operation]!
}
