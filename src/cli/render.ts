import { asText, isObject } from '../base/guards.ts'
import { describeSize } from '../base/size.ts'
import type { Device, Export, Leg, Pace, Status } from '../manage/status.types.ts'
import { printable } from './print.ts'
import { progressLine } from './progress.ts'

/** A device in the text: its columns, the words behind them, and the lines below it. */
interface Row {
  readonly depth: number
  readonly name: string
  readonly state: string
  readonly rest: readonly string[]
  readonly below: readonly string[]
}

/**
 * The status as text: a line for each device, indented in its parent. Healthy ones are short; the
 * others say why they are not. `now` is wall time in milliseconds. For people lines are broken at
 * `columns`; programs find each device on one line.
 */
export function renderStatus(status: Status, now: number, columns = Infinity): string {
  const rows: Row[] = []
  for (const [name, device] of Object.entries(status.devices))
    addDevice({ rows, status, now }, 0, name, device)
  const nameWidth = Math.max(0, ...rows.map(({ depth, name }) => 2 * depth + name.length))
  const stateWidth = Math.max(0, ...rows.map(({ state }) => state.length))
  return rows
    .flatMap(({ depth, name, state, rest, below }) => {
      const first = `${'  '.repeat(depth)}${name}`.padEnd(nameWidth)
      const own = broken([first, state.padEnd(stateWidth), ...withoutRepeats(rest)], {
        columns,
        indent: nameWidth + stateWidth + 4,
      })
      return [...own, ...below.map((line) => printable(`${'  '.repeat(depth + 2)}${line}`))]
    })
    .concat(refusedLines(status), warningLines(status), '')
    .join('\n')
}

/** Columns that continued lines have at least, however deep the tree and narrow the terminal. */
const restMin = 30

/** The words in one line, two blanks apart, or in several that are indented. */
function broken(
  words: readonly string[],
  { columns, indent }: { readonly columns: number; readonly indent: number },
): string[] {
  const width = Math.max(columns, Math.min(indent, 30) + restMin)
  const margin = ' '.repeat(Math.min(indent, width - restMin))
  const lines: string[] = []
  let line = ''
  const add = (word: string, blanks: string): void => {
    const longer = line === '' ? word : `${line}${blanks}${word}`
    if (line === '' || longer.length <= width) {
      line = longer
      return
    }
    lines.push(line)
    line = `${margin}${word}`
  }
  for (const word of words) {
    const isLong = margin.length + word.length > width
    for (const [at, part] of (isLong ? word.split(breaks) : [word]).entries())
      add(part, at === 0 ? '  ' : ' ')
  }
  return [...lines, line].map((text) => printable(text.trimEnd()))
}

/** Blanks where a line may be broken: not within a command, which a reader may copy. */
const breaks = / (?=(?:[^`]*`[^`]*`)*[^`]*$)/

/** Drops repeats: a leg, its device and the last failed request often give the same reason. */
function withoutRepeats(words: readonly string[]): readonly string[] {
  const isSaid = (word: string, at: number): boolean =>
    words.indexOf(word) < at ||
    (isSentence(word) && words.some((other) => other !== word && other.includes(word)))
  return words.filter((word, at) => !isSaid(word, at))
}

/** True for a text that is too long to be in a line twice by chance. */
function isSentence(word: string): boolean {
  return word.length >= 20
}

/** A line for each sentence that is of the target itself and of no device. */
function warningLines({ warnings = [] }: Status): string[] {
  return warnings.map((each) => printable(`warning: ${each}`))
}

/** A line for each limit because of which clients were refused. */
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

/** The rows so far, and the status that they show. */
interface Rendering {
  readonly rows: Row[]
  readonly status: Status
  /** Wall time in milliseconds. */
  readonly now: number
}

function addDevice(rendering: Rendering, depth: number, name: string, device: Device): void {
  const { rows, status, now } = rendering
  const rest = describe(device, status, now)
  rows.push({ depth, name, state: wordOf(device), rest, below: users(device, status, now) })
  addParts(rendering, depth + 1, device)
}

/** Adds the children and legs of a device. */
function addParts(rendering: Rendering, depth: number, device: Device): void {
  for (const [label, child] of Object.entries(device.children))
    addDevice(rendering, depth, label, child)
  for (const [name, leg] of Object.entries(device.legs ?? {}))
    addLeg(rendering, depth, { volume: device.path, name, leg })
}

/** A leg with its name and the path of its mirror. */
interface LegOf {
  readonly volume: string
  readonly name: string
  readonly leg: Leg
}

function addLeg(rendering: Rendering, depth: number, { volume, name, leg }: LegOf): void {
  const { rows, status, now } = rendering
  const { device } = leg
  const own = device === null ? [] : describe(device, status, now)
  const hasMore = typeof device?.details['bytesUnused'] === 'number'
  const more = hasMore ? [`\`dst leg grow ${volume} ${name}\` uses them`] : []
  const rest = [...own, ...more, ...progress(leg, now)]
  const below = device === null ? [] : users(device, status, now)
  rows.push({ depth, name, state: leg.state, rest, below })
  if (device !== null) addParts(rendering, depth + 1, device)
}

/** The word for a device's state; a mirror has its own, which say more. */
function wordOf({ state, details }: Device): string {
  const { volume } = details
  return typeof volume === 'string' && state !== 'closed' ? volume : state
}

function describe(device: Device, status: Status, now: number): string[] {
  const { type, size, details, inFlight, reason, state } = device
  const { bytesUnused, looking } = details
  const exports = Object.entries(status.exports).filter(([, each]) => each.device === device.path)
  const slow = Object.entries(device.legs ?? {}).filter(([, leg]) => leg.slow !== undefined)
  return present([
    size === null ? type : `${type} ${describeSize(size)}`,
    asText(details['path'] ?? details['uri']),
    ...exports.map(([name, each]) => exported(name, each)),
    inFlight > 0 ? `${inFlight} in flight` : '',
    busy(device),
    asText(details['room']),
    typeof bytesUnused === 'number' ? `${describeSize(bytesUnused)} more are there` : '',
    isObject(looking) ? progressLine(looking) : '',
    waits(details),
    ...verifying(details, now),
    slow.length > 0 ? `slow: ${slow.map(([name]) => name).join(', ')}` : '',
    ...(state === 'online' ? [reason] : [withoutLegs(reason, device), ago(device.since, now)]),
    asText(details['hint']),
    lastError(device, now),
  ])
}

/** The words that are not empty. */
function present(words: readonly string[]): string[] {
  return words.filter((word) => word !== '')
}

/** Rates and latencies of a device that has requests; '' for an idle one. */
function busy({ rate, latency }: Device): string {
  if (rate === undefined || rate === null || rate.operationsPerSecond === 0) return ''
  const { operationsPerSecond, bytesReadPerSecond, bytesWrittenPerSecond } = rate
  const words = [`${operationsPerSecond} requests/s`]
  if (bytesReadPerSecond > 0) words.push(`reads ${describeSize(bytesReadPerSecond)}/s`)
  if (bytesWrittenPerSecond > 0) words.push(`writes ${describeSize(bytesWrittenPerSecond)}/s`)
  for (const [operation, name] of [
    ['read', 'a read'],
    ['write', 'a write'],
    ['flush', 'a flush'],
  ] as const)
    if (latency[operation] !== undefined) words.push(`${name} takes ${latency[operation]} ms`)
  return words.join(', ')
}

/** Clients that are listed one by one; the others are counted. */
const clientsMax = 20

/** The other URIs of a device's exports, and their clients. */
function users(device: Device, { exports }: Status, now: number): string[] {
  const mine = Object.values(exports).filter((each) => each.device === device.path)
  return mine.flatMap(({ uris, clients, limits = [] }) => {
    const named = clients.slice(0, clientsMax).map((client) => {
      const { protocol, peer, identity = '', connections, inFlight, since } = client
      const who = identity === '' ? peer : `${peer} (${identity})`
      const several = connections > 1 ? `, ${connections} connections` : ''
      return `client ${who} over ${protocol}${several}, ${inFlight} in flight, ${ago(since, now)}`
    })
    const more = clients.length - named.length
    return [
      ...uris.slice(1).map((uri) => `also ${uri}`),
      ...limits.map(limited),
      ...named,
      ...(more > 0 ? [`and ${more} more clients`] : []),
    ]
  })
}

/** Milliseconds after which an error is old: only `--json` shows it then. */
const lastErrorShownMs = 24 * 3600 * 1000

function lastError({ lastError: error }: Device, now: number): string {
  if (error === null) return ''
  const { code, message, at } = error
  if (at === undefined) return `last error ${code}: ${message}`
  if (now - new Date(at).getTime() > lastErrorShownMs) return ''
  return `last error at ${moment(at, now)} ${code}: ${message}`
}

/** The number of waiting requests, the time of the oldest, and the reason. */
function waits({ waiting, waitingSeconds, waitingFor }: Device['details']): string {
  if (typeof waiting !== 'number' || waiting === 0) return ''
  const oldest = typeof waitingSeconds === 'number' ? `, the oldest for ${waitingSeconds} s` : ''
  const reason = asText(waitingFor)
  return `${waiting} waiting${oldest}${reason === '' ? '' : `: ${reason}`}`
}

/** The progress of a mirror's verify, or the times of the last and the next one. */
function verifying(details: Device['details'], now: number): string[] {
  const { verify, verifiedAt, verifyNextAt } = details
  const hint = asText(details['differencesHint'])
  if (!isObject(verify)) {
    const last = typeof verifiedAt === 'string' ? `verified ${moment(verifiedAt, now)}` : ''
    if (typeof verifyNextAt !== 'string') return [last, hint]
    const isDue = new Date(verifyNextAt).getTime() <= now
    return [last, isDue ? 'verify is due' : `verify next ${moment(verifyNextAt, now)}`, hint]
  }
  const { bytesDifferent } = verify
  const isDifferent = typeof bytesDifferent === 'number' && bytesDifferent > 0
  const found = isDifferent ? `, ${bytesDifferent} bytes differ` : ''
  return [`verify ${progressLine(verify)}${found}`, hint]
}

/** A limit of speed, whom it is for, and whether anybody waits for it. */
function limited(pace: Pace): string {
  const { rule, operationsPerSecond: operations, bytesPerSecond: bytes, throttled, waiting } = pace
  const rates = [
    operations === null ? '' : `${operations} operations/s`,
    bytes === null ? '' : `${describeSize(bytes)}/s`,
  ].filter((each) => each !== '')
  const whom = rule === null ? '' : ` for clients of rule ${rule + 1}`
  const connections = waiting === 1 ? '1 connection waits' : `${waiting} connections wait`
  const now = waiting > 0 ? `: ${connections}` : throttled ? ': clients are slowed down' : ''
  return `limited to ${rates.join(' and ')}${whom}${now}`
}

function exported(name: string, { uris, clients, readOnly }: Export): string {
  const where = uris[0] ?? `"${name}"`
  const access = readOnly ? ', read only' : ''
  const count = clients.length === 1 ? '1 client' : `${clients.length} clients`
  return `export ${where} (${count}${access})`
}

/** The reason of a mirror without the parts that the lines of its legs have. */
function withoutLegs(reason: string, { legs }: Device): string {
  return Object.values(legs ?? {}).reduce((text, leg) => {
    const own = leg.device
    return own === null || own.reason === ''
      ? text
      : text.replace(` (${own.state}: ${own.reason})`, '')
  }, reason)
}

/** The progress and troubles of a leg. */
function progress(leg: Leg, now: number): string[] {
  const { silentSeconds, slow = '', reason = '', since, bytesOutOfSync, label } = leg
  const { generation, resync } = leg
  const isSilent = typeof silentSeconds === 'number' && silentSeconds > 0
  const words = [isSilent ? `no answer for ${silentSeconds} s` : '', slow]
  if (leg.state === 'in-sync') return present(words)
  const isBehind = typeof bytesOutOfSync === 'number' && bytesOutOfSync > 0
  return present([
    ...words,
    isObject(resync) ? progressLine(resync) : '',
    isBehind ? `${describeSize(bytesOutOfSync)} out of sync` : '',
    typeof label === 'string' ? `as "${label}"` : '',
    typeof generation === 'number' ? `generation ${generation}` : '',
    reason,
    isThere(leg) ? '' : asText(leg['hint']),
    typeof since === 'string' ? ago(since, now) : '',
  ])
}

/** True for a leg that is there while its volume waits for others: its hint would mislead. */
function isThere({ state, reason = '', device }: Leg): boolean {
  return state === 'missing' && reason === '' && device?.state === 'online'
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
