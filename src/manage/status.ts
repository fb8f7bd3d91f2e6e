import { isObject, wallMax } from '../base/guards.ts'
import type { Counters, Device, Facts } from '../device/device.ts'
import { operationNames, type Operation } from '../device/request.ts'
import { formatAddress } from '../net/address.ts'
import type { ClientStatus } from '../export/service.ts'
import type { PaceOf } from '../daemon/exports.ts'
import type { Target } from '../daemon/target.ts'
import { slowLegs } from './slowness.ts'
import type * as status from './status.types.ts'

/** The status of a target, as `schemas/status.schema.json` describes it. */
export function statusOf(target: Target, program: string): status.Status {
  const clients = target.clients()
  const devices = statusOfAll(target.tree.roots, target)
  return {
    version: 1,
    program,
    pid: process.pid,
    startedAt: iso(target.startedAt),
    state: worst([
      ...Object.values(devices).map(health),
      ...target.troubles.map(() => 'degraded' as const),
    ]),
    warnings: [...target.warnings],
    listeners: target.listeners.map(({ protocol, address, tls }) => ({
      protocol,
      address: formatAddress(address),
      tls,
    })),
    credentials: target.credentials.status.map(({ name, role, problem, readAt, notAfter }) => ({
      ...{ name, role, problem },
      readAt: readAt === null ? null : iso(readAt),
      notAfter: notAfter === null ? null : iso(notAfter),
    })),
    refused: { ...target.refused },
    exports: Object.fromEntries(
      target.exports.list().map(({ name, device, readOnly, description }) => [
        name,
        {
          device: device.path,
          readOnly,
          description,
          uris: [...target.urisOf(name)],
          limits: target.exports.pacesOf(name).map(paceStatus),
          clients: clients.filter((client) => client.export === name).map(clientStatus),
        },
      ]),
    ),
    devices,
  }
}

/** The status of each device, by its name in its parent. */
function statusOfAll(devices: readonly Device[], target: Target): Record<string, status.Device> {
  const { tree } = target
  return Object.fromEntries(
    devices.map((device) => [tree.labelOf(device), deviceStatus(device, target)]),
  )
}

function paceStatus({ rule, pace: { rates, throttles, waiting } }: PaceOf): status.Pace {
  return { rule, ...rates, throttled: throttles, waiting }
}

function clientStatus(client: ClientStatus) {
  const { protocol, peer, identity, connections, inFlight, since } = client
  return { protocol, peer, identity, connections, inFlight, since: iso(since) }
}

function deviceStatus(device: Device, target: Target): status.Device {
  const { path, driver, facts, state, counters } = device
  const children = statusOfAll(driver.children, target)
  const { legs, ...details } = driver.describe()
  const common = {
    path,
    type: driver.type,
    size: facts?.size ?? null,
    state: state.word,
    reason: state.reason,
    since: iso(state.since),
    inFlight: counters.inFlight,
    counters: countersStatus(counters),
    latency: latencyStatus(device),
    rate: target.looking.rates.of(device),
    lastError: lastError(counters),
    abilities: facts === null ? null : abilities(facts),
    details: timed(details),
  }
  if (driver.type !== 'mirror') return { ...common, children }
  return { ...common, children: {}, legs: legStatus(isObject(legs) ? legs : {}, children) }
}

/** The legs of a mirror: its own words on each, with the status of its device. */
function legStatus(
  legs: Readonly<Record<string, unknown>>,
  devices: Readonly<Record<string, status.Device>>,
): Record<string, status.Leg> {
  const names = new Set([...Object.keys(legs), ...Object.keys(devices)])
  const all: Record<string, status.Leg> = Object.fromEntries(
    [...names].map((name) => {
      const said = isObject(legs[name]) ? timed(legs[name]) : {}
      const leg = { state: 'missing', ...said, device: devices[name] ?? null }
      return [name, leg as status.Leg]
    }),
  )
  for (const [name, slow] of slowLegs(all)) all[name]!.slow = slow
  return all
}

const momentNames: ReadonlySet<string> = new Set(['since', 'verifiedAt', 'verifyNextAt'])

/** Turns times that a driver gives in wall-clock milliseconds into text. */
function timed(details: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const moments = Object.entries(details).filter(
    ([name, value]) => momentNames.has(name) && typeof value === 'number',
  )
  return {
    ...details,
    ...Object.fromEntries(moments.map(([name, value]) => [name, iso(value as number)])),
  }
}

function countersStatus(counters: Counters): status.Device['counters'] {
  const { operations, bytes, errors } = counters
  const of = operationNames.map((name, at): [string, status.Counter] => [
    name,
    { operations: operations[at]!, bytes: bytes[at]!, errors: errors[at]! },
  ])
  return Object.fromEntries(of) as status.Device['counters']
}

/** Latencies in milliseconds, rounded to a microsecond: a memory takes no longer. */
function latencyStatus({ latency }: Device): status.Device['latency'] {
  const known: Record<string, number> = {}
  for (const [operation, name] of operationNames.entries()) {
    const ms = latency.of(operation as Operation)
    if (ms !== null) known[name] = Math.round(ms * 1000) / 1000
  }
  return known
}

function lastError({ lastError: error, lastErrorAt }: Counters): status.Error | null {
  if (error === null) return null
  const { code, message, device } = error
  return { code, message, device, at: iso(lastErrorAt) }
}

function abilities(facts: Facts): status.Abilities {
  const { readOnly, blockSize, preferredBlockSize, payloadMax, identity, bootId } = facts
  const { flush, fua, trim, writeZeroes, fastZero } = facts
  const sizes = { readOnly, blockSize, preferredBlockSize, payloadMax }
  return { ...sizes, flush, fua, trim, writeZeroes, fastZero, identity, bootId }
}

/** The states of a target, the worst last. */
const severities = ['healthy', 'syncing', 'degraded', 'failed'] as const
type Health = (typeof severities)[number]

/** The state of a device with all of its parts. */
export function health(device: status.Device): Health {
  if (device.state !== 'online' && device.state !== 'degraded') return 'failed'
  const below = [...Object.values(device.children).map(health)].map(softened)
  const legs = Object.values(device.legs ?? {}).map(legHealth)
  // A suspended volume answers nothing until a leg is back, though its requests only wait.
  if (device.details['volume'] === 'suspended') return 'failed'
  if (secondsWaited(device) >= waitSecondsMin) legs.push('degraded')
  // A mirror is degraded while a leg catches up: that is no worse than syncing.
  const own = device.state === 'online' || legs.includes('syncing') ? 'healthy' : 'degraded'
  return worst([own, ...below, ...legs])
}

/** A mirror whose oldest request waits for so long is degraded, also if its legs are well. */
const waitSecondsMin = 1

/** The seconds that the oldest request of a mirror has waited for a leg. */
function secondsWaited({ details }: status.Device): number {
  const { waitingSeconds } = details
  return typeof waitingSeconds === 'number' ? waitingSeconds : 0
}

function legHealth({ state, device }: status.Leg): Health {
  // A detached leg is away on purpose.
  if (state === 'detached') return 'healthy'
  if (state !== 'in-sync' && state !== 'syncing') return 'degraded'
  const below = device === null ? 'degraded' : softened(health(device))
  return worst([below, state === 'syncing' ? 'syncing' : 'healthy'])
}

/** The effect of a part on the whole: a failed one leaves it degraded. */
function softened(state: Health): Health {
  return state === 'failed' ? 'degraded' : state
}

function worst(states: readonly Health[]): Health {
  return severities[Math.max(0, ...states.map((state) => severities.indexOf(state)))]!
}

/** Formats wall-clock milliseconds as ISO 8601 in UTC; a leg may hold a time that no Date has. */
export function iso(wall: number): string {
  return new Date(Math.min(wall, wallMax)).toISOString()
}
