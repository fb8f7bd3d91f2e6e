import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { StorageError } from '../../src/base/errors.ts'
import { ManagementServer, type Manager } from '../../src/manage/management.ts'
import type { Dice } from '../simulation/dice.ts'
import { mutated, type Part } from './mutate.ts'
import { inPieces, soon, talk } from './sockets.ts'
import { mutatedText } from './state.ts'
import { must, type Surface, type Trial } from './trial.ts'

const answers = ['status', 'run', 'refuse', 'late'] as const

/** Takes commands, and refuses some of them. */
class Commands implements Manager {
  underWay = 0

  status(): unknown {
    return { state: 'healthy' }
  }

  async run(command: string, names: Readonly<Record<string, string>>, options: object) {
    must(/^(volume|leg|claim|claims)\./.test(command), `a command called ${command}`)
    must(
      Object.values(names).every((name) => typeof name === 'string'),
      'a name is no text',
    )
    // What is logged has to be possible to write.
    const length = JSON.stringify(options).length
    this.underWay++
    if (length % 3 === 0) await new Promise((resolve) => setImmediate(resolve))
    this.underWay--
    if (length % 5 === 0) throw new StorageError('CONFIG', 'refused')
    return { answers }
  }
}

const options = { size: 4096, as: 'before', discard: true, device: { type: 'memory', size: '1M' } }
const paths = [
  '/v1/status',
  '/v1/status?when=now',
  '/v1/volumes/home/history',
  '/v1/volumes/home/legs/left%2Fx/detach',
  '/v1/exports/home/claim/reset',
  '/v1/claims/reset',
  '/',
]

function request(dice: Dice): Part {
  const body = dice.chance(0.6) ? mutatedText(options, dice) : ''
  const bytes = Buffer.byteLength(body)
  const length = dice.chance(0.9) ? bytes : dice.pick([0, -1, 2 ** 31, 1e20, bytes + 1])
  const chunked = dice.chance(0.2)
  const lines = [
    `${dice.pick(['GET', 'POST', 'POST', 'PUT', 'HEAD', 'OPTIONS'])} ${dice.pick(paths)} HTTP/1.1`,
    `host: ${dice.pick(['localhost', '127.0.0.1:80', 'evil.example', '[::1]'])}`,
    `content-type: ${dice.pick(['application/json', 'text/plain'])}`,
    chunked ? 'transfer-encoding: chunked' : `content-length: ${length}`,
  ]
  if (dice.chance(0.1)) lines.push('origin: http://evil.example')
  if (dice.chance(0.1)) lines.push(`expect: ${dice.pick(['100-continue', 'the worst'])}`)
  if (dice.chance(0.1)) lines.push(`connection: ${dice.pick(['close', 'upgrade', 'keep-alive'])}`)
  if (dice.chance(0.05)) lines.push(`x-long: ${'x'.repeat(dice.pick([100, 20_000]))}`)
  const text = chunked ? `${bytes.toString(16)}\r\n${body}\r\n0\r\n\r\n` : body
  return { bytes: Buffer.from(`${lines.join('\r\n')}\r\n\r\n${text}`) }
}

function conversation(dice: Dice): readonly Part[] {
  return Array.from({ length: 1 + dice.below(5) }, () => request(dice))
}

/** Every byte belongs to an answer of HTTP whose body is as long as it says, and is JSON. */
function checkAnswers(heard: Buffer): void {
  for (let at = 0; at < heard.length;) {
    const end = heard.indexOf('\r\n\r\n', at)
    must(end >= 0, 'an answer breaks off')
    const head = heard.toString('latin1', at, end)
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1])
    must(status >= 100 && status < 600, `an answer begins with ${head.slice(0, 40)}`)
    // What Node refuses by itself has no body, in as many words.
    const bare = /^transfer-encoding: chunked$/im.test(head) ? '0\r\n\r\n'.length : 0
    const length = Number(/^content-length: (\d+)$/im.exec(head)?.[1] ?? bare)
    const body = heard.subarray(end + 4, end + 4 + length)
    at = end + 4 + length
    if (body.length === 0) continue
    // The answer to HEAD has the length of what it leaves out: the next answer follows at once.
    if (body.toString('latin1', 0, 5) === 'HTTP/' || body.length < length) return
    must(
      isJson(body.toString()) || bare > 0,
      `an answer that is no JSON: ${body.toString().slice(0, 60)}`,
    )
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** A request that is answered at once, as the status is not. */
const good = Buffer.from('POST /v1/volumes/home/history HTTP/1.1\r\nhost: x\r\n\r\n')

interface Running {
  readonly folder: string
  readonly path: string
  readonly server: ManagementServer
  readonly commands: Commands
}

let running: Promise<Running> | null = null

async function start(): Promise<Running> {
  const folder = mkdtempSync(join(tmpdir(), 'dst-fuzz-http-'))
  const path = join(folder, 'dst.sock')
  const commands = new Commands()
  const server = new ManagementServer(commands)
  await server.listen({ kind: 'unix', path })
  return { folder, path, server, commands }
}

/** The management, over real sockets: the parser is Node's. */
export const http: Surface = {
  name: 'http',
  weight: 1,
  async run(trial: Trial): Promise<void> {
    running ??= start()
    const { path, commands } = await running
    const { dice } = trial
    const parts = mutated(conversation(dice), dice, () => conversation(dice))
    const bytes = Buffer.concat(parts.map((part) => part.bytes))
    checkAnswers(await talk(trial, net.connect(path), inPieces(trial, bytes)))
    while (commands.underWay > 0) await soon(trial.turn(), 'a command ends')
    const heard = await talk(trial, net.connect(path), [good])
    must(heard.toString().includes('{"answers":'), 'others are not served any more')
  },
  async close(): Promise<void> {
    if (running === null) return
    const { server, folder } = await running
    running = null
    server.close()
    rmSync(folder, { recursive: true })
  },
}
