import type { Clock, Timer } from '../base/clock.ts'
import { endsWithin } from '../base/deadline.ts'
import type { Device } from '../device/device.ts'
import { Rates } from './rates.ts'

/** Milliseconds between two looks: the system does not tell when a file or disk has grown. */
const lookMs = 2000
/** Milliseconds that a status waits for a look: a disk that hangs must not hold it up. */
const waitMs = 500

/** Checks the sizes of devices now and then, for each status, and when a client connects. */
export class Looking {
  private readonly clock: Clock
  private readonly devices: () => readonly Device[]
  /** The load of the devices. */
  readonly rates: Rates
  private timer: Timer | null = null
  private under: Promise<unknown> | null = null

  constructor(clock: Clock, devices: () => readonly Device[]) {
    this.clock = clock
    this.devices = devices
    this.rates = new Rates(clock)
  }

  start(): void {
    this.timer = this.clock.timer(lookMs, () => {
      void this.look()
      this.rates.look(this.devices())
      this.start()
    })
  }

  stop(): void {
    this.timer?.cancel()
  }

  /** Resolves when every device was checked. Calls during a look share it. */
  look(): Promise<unknown> {
    const looks = async (): Promise<void> => {
      await Promise.all(this.devices().map(async ({ driver }) => driver.look?.()))
    }
    this.under ??= looks().finally(() => (this.under = null))
    return this.under
  }

  /** Starts a look, and resolves when it ends or after `waitMs`. */
  async soon(): Promise<void> {
    await endsWithin(this.clock, this.look(), waitMs)
  }
}
