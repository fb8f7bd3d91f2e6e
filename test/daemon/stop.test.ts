import { expect } from 'chai'
import {
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { Slab } from '../../src/base/slab.ts'
import { SocketNetwork } from '../../src/net/sockets.ts'
import { checkConfig } from '../../src/config/config.ts'
import { Target } from '../../src/daemon/target.ts'

describe('a target one of whose devices cannot be closed', () => {
  let folder: string
  let target: Target
  const said: string[] = []

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'dst-stop-'))
    said.length = 0
    const memory = { type: 'memory', size: '1M' }
    const file = { type: 'file', path: 'a.img', size: '1M', create: true }
    const devices = { first: { type: 'linear', parts: [memory, file] }, last: memory }
    const { config } = checkConfig({ devices }, folder)
    const say = (_: object, text: string): void => void said.push(text)
    const log = { ...silentLog, warn: say, error: say }
    const parts = { clock: systemClock, random: systemRandom, slab: new Slab(), log }
    target = new Target(config, { ...parts, network: new SocketNetwork() })
    await target.start()
  })

  afterEach(() => rmSync(folder, { recursive: true }))

  const device = (path: string) => target.tree.find(path)!
  const closed = (): string[] =>
    target.tree.devices.filter(({ state }) => state.word === 'closed').map(({ path }) => path)

  it('closes all others, says why, and was not stopped cleanly', async () => {
    for (const path of ['first', 'first/0'])
      device(path).driver.close = () => Promise.reject(new Error(`${path} is stuck`))
    expect(await target.stop()).to.equal(false)
    expect(said).to.deep.equal(['first was not closed cleanly: closing: first is stuck'])
    expect(closed()).to.have.members(['first', 'first/0', 'first/1', 'last'])
  })

  it('names those that take too long', async () => {
    device('first/1').driver.close = () => new Promise(() => undefined)
    target.config.limits.stopTimeout = 100
    expect(await target.stop()).to.equal(false)
    expect(said).to.deep.equal(['first was not flushed and closed in time'])
    expect(closed()).to.include('last')
  })
})

/** Files in the folder that this process has open. */
function openIn(folder: string): string[] {
  const targetOf = (number: string): string => {
    try {
      return readlinkSync(`/proc/self/fd/${number}`)
    } catch {
      return ''
    }
  }
  return readdirSync('/proc/self/fd')
    .map(targetOf)
    .filter((path) => path.startsWith(folder))
}

it('a device that cannot be opened keeps no target from starting or stopping', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'dst-start-'))
  const bad = join(folder, 'bad.img')
  writeFileSync(bad, 'so far well')
  const devices = {
    good: { type: 'file', path: 'good.img', size: '1M', create: true },
    bad: { type: 'file', path: bad, readOnly: true },
  }
  const { config } = checkConfig({ devices }, folder)
  const world = { clock: systemClock, random: systemRandom, slab: new Slab(), log: silentLog }
  const target = new Target(config, { ...world, network: new SocketNetwork() })
  truncateSync(bad)
  await target.start()
  const [good, other] = target.tree.roots
  expect(good!.usable).to.equal(true)
  expect(other!.state.word).to.equal('opening')
  expect(other!.state.reason).to.include('is empty')
  expect(new Set(openIn(folder))).to.deep.equal(new Set([join(folder, 'good.img')]))
  expect(await target.stop()).to.equal(true)
  expect(openIn(folder)).to.deep.equal([])
  rmSync(folder, { recursive: true })
})
