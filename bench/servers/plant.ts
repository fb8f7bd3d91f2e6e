import { Device } from '../../src/device/device.ts'
import type { Request } from '../../src/device/request.ts'

/**
 * Loaded into a target with `node --import`, as `plant.js?0.15`, to see whether a slowdown is
 * found: every few requests it burns a share of the processor time that was spent since, so that
 * everything costs so much more. The product knows nothing of it.
 */

/** Requests between two burns: asking for the time takes some microseconds itself. */
const every = 128

function spent(): number {
  const { user, system } = process.cpuUsage()
  return user + system
}

function plant(share: number): void {
  const method = Object.getOwnPropertyDescriptor(Device.prototype, 'submit')!
  const submit = method.value as (this: Device, request: Request) => void
  let requests = 0
  let last = spent()
  Device.prototype.submit = function (request) {
    if (++requests % every === 0) {
      const until = last + (spent() - last) * (1 + share)
      do last = spent()
      while (last < until)
    }
    submit.call(this, request)
  }
}

plant(Number(new URL(import.meta.url).search.slice(1)))
