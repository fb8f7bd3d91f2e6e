import { describeSize } from '../base/size.ts'
import { isObject } from '../target/tree.ts'
import type { Device, Export, Leg, Status } from '../target/status.types.ts'
import { printable } from './print.ts'
import { progressLine } from './progress.ts'

/** One line: what stands in columns, and what follows them. */
interface Row {
  readonly depth: number
  readonly name: string
  readonly state: string
  readonly rest: readonly string[]
}

/**
 * The status as text: a line for each device, those inside others indented. Healthy ones are short;
 * the others say why. `now` is wall time in milliseconds.
 */
export function renderStatus(status: Status, now: number): string {
  const rows: Row[] = []
  for (const [name, device] of Object.entries(status.devices))
    addDevice(rows, 0, name, device, status, now)
  const nameWidth = Math.max(0, ...rows.map(({ depth, name }) => 2 * depth + name.length))
  const stateWidth = Math.max(0, ...rows.map(({ state }) => state.length))
  return rows
    .map(({ depth, name, state, rest }) => {
      const first = `${'  '.repeat(depth)}${name}`.padEnd(nameWidth)
      return printable([first, state.padEnd(stateWidth), ...rest].join('  ').trimEnd())
    })
    .concat(refusedLines(status), '')
    .join('\n')
}

/** A line for each limit at which clients were not let in; none while there was no need. */
function refusedLines({ refused }: Status): string[] {
  return Object.entries(refused ?? {})
    .filter(([, count]) => count > 0)
    .map(([limit, count]) => `refused ${count} connections: ${refusalWords[limit] ?? limit}`)
}

const refusalWords: Readonly<Record<string, string>> = {
  connections: 'limits.connections is reached',
  connectionsPerPeer: 'limits.connectionsPerPeer is reached',
  descriptors: 'too few open files are allowed to the process',
}

function addDevice(
  rows: Row[],
  depth: number,
  name: string,
  device: Device,
  status: Status,
  now: number,
): void {
  rows.push({ depth, name, state: wordOf(device), rest: describe(device, status, now) })
  for (const [label, child] of Object.entries(device.children))
    addDevice(rows, depth + 1, label, child, status, now)
  for (const [label, leg] of Object.entries(device.legs ?? {}))
    addLeg(rows, depth + 1, { volume: device.path, name: label, leg }, status, now)
}

/** A leg under its name, and the path of its mirror. */
interface LegOf {
  readonly volume: string
  readonly name: string
  readonly leg: Leg
}

function addLeg(rows: Row[], depth: number, of: LegOf, status: Status, now: number): void {
  const { volume, name, leg } = of
  const { device } = leg
  const own = device === null ? [] : describe(device, status, now)
  const hasMore = typeof device?.details['bytesUnused'] === 'number'
  const more = hasMore ? [`\`dst leg grow ${volume} ${name}\` uses them`] : []
  rows.push({ depth, name, state: leg.state, rest: [...own, ...more, ...progress(leg, now)] })
  if (device === null) return
  for (const [label, child] of Object.entries(device.children))
    addDevice(rows, depth + 1, label, child, status, now)
  for (const [label, inner] of Object.entries(device.legs ?? {}))
    addLeg(rows, depth + 1, { volume: device.path, name: label, leg: inner }, status, now)
}

/** A mirror says more of itself than whether it takes requests. */
function wordOf({ state, details }: Device): string {
  const { volume } = details
  return typeof volume === 'string' && state !== 'closed' ? volume : state
}

function describe(device: Device, status: Status, now: number): string[] {
  const { type, size, details, inFlight, reason, state } = device
  const words = [[type, size === null ? '' : describeSize(size)].filter(Boolean).join(' ')]
  const place = details['path'] ?? details['uri']
  if (typeof place === 'string') words.push(place)
  for (const [name, each] of Object.entries(status.exports))
    if (each.device === device.path) words.push(exported(name, each))
  if (inFlight > 0) words.push(`${inFlight} in flight`)
  const { bytesUnused, room } = details
  if (typeof room === 'string' && room !== '') words.push(room)
  if (typeof bytesUnused === 'number') words.push(`${describeSize(bytesUnused)} more are there`)
  if (isObject(details['looking'])) words.push(progressLine(details['looking']))
  words.push(...waits(details), ...verifying(details, now))
  const slow = Object.entries(device.legs ?? {}).filter(([, leg]) => leg.slow !== undefined)
  if (slow.length > 0) words.push(`slow: ${slow.map(([name]) => name).join(', ')}`)
  if (state !== 'online') words.push(...why(reason, device.since, now))
  else if (reason !== '') words.push(reason)
  return [...words, ...lastError(device, now)]
}

/** Milliseconds after which an error is old news, which `--json` has alone. */
const lastErrorShownMs = 24 * 3600 * 1000

function lastError({ lastError: error }: Device, now: number): string[] {
  if (error === null) return []
  const { code, message, at } = error
  if (at === undefined) return [`last error ${code}: ${message}`]
  if (now - new Date(at).getTime() > lastErrorShownMs) return []
  return [`last error at ${moment(at, now)} ${code}: ${message}`]
}

/** How many requests wait, for how long the oldest has, and for what. */
function waits({ waiting, waitingSeconds, waitingFor }: Device['details']): string[] {
  if (typeof waiting !== 'number' || waiting === 0) return []
  const oldest = typeof waitingSeconds === 'number' ? `, the oldest for ${waitingSeconds} s` : ''
  const reason = typeof waitingFor === 'string' && waitingFor !== '' ? `: ${waitingFor}` : ''
  return [`${waiting} waiting${oldest}${reason}`]
}

/** How far a verify of a mirror is, or when one was and the next will be. */
function verifying(details: Device['details'], now: number): string[] {
  const { verify, verifiedAt, verifyNextAt, differencesHint } = details
  const hint = typeof differencesHint === 'string' ? [differencesHint] : []
  if (!isObject(verify)) {
    const last = typeof verifiedAt === 'string' ? [`verified ${moment(verifiedAt, now)}`] : []
    if (typeof verifyNextAt !== 'string') return [...last, ...hint]
    const isDue = new Date(verifyNextAt).getTime() <= now
    return [...last, isDue ? 'verify is due' : `verify next ${moment(verifyNextAt, now)}`, ...hint]
  }
  const { bytesDifferent } = verify
  const found =
    typeof bytesDifferent === 'number' && bytesDifferent > 0
      ? `, ${bytesDifferent} bytes differ`
      : ''
  return [`verify ${progressLine(verify)}${found}`, ...hint]
}

function exported(name: string, { uris, clients, readOnly }: Export): string {
  const where = uris[0] ?? `"${name}"`
  const access = readOnly ? ', read only' : ''
  const count = clients.length === 1 ? '1 client' : `${clients.length} clients`
  return `export ${where} (${count}${access})`
}

function why(reason: string, since: string, now: number): string[] {
  return [...(reason === '' ? [] : [reason]), ago(since, now)]
}

/** What a leg that is not in sync has to say. */
function progress(leg: Leg, now: number): string[] {
  const { silentSeconds } = leg
  const silent = typeof silentSeconds === 'number' && silentSeconds > 0
  const words = silent ? [`no answer for ${silentSeconds} s`] : []
  if (leg.slow !== undefined) words.push(leg.slow)
  if (leg.state === 'in-sync') return words
  const { reason, since, bytesOutOfSync, label, generation, resync } = leg
  if (isObject(resync)) words.push(progressLine(resync))
  if (typeof bytesOutOfSync === 'number' && bytesOutOfSync > 0)
    words.push(`${describeSize(bytesOutOfSync)} out of sync`)
  if (typeof label === 'string') words.push(`as "${label}"`)
  if (typeof generation === 'number') words.push(`generation ${generation}`)
  if (typeof reason === 'string' && reason !== '') words.push(reason)
  if (typeof since === 'string') words.push(ago(since, now))
  return words
}

function ago(since: string, now: number): string {
  return `since ${moment(since, now)}`
}

/** `12:03:11`, with the date when that was not today. */
function moment(text: string, now: number): string {
  const moment = new Date(text)
  const day = moment.toDateString() === new Date(now).toDateString()
  const time = moment.toTimeString().slice(0, 8)
  return day ? time : `${moment.toISOString().slice(0, 10)} ${time}`
}
