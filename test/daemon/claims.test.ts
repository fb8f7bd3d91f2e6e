import { expect } from 'chai'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { StorageError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { Slab } from '../../src/base/slab.ts'
import { SocketNetwork } from '../../src/net/sockets.ts'
import { checkConfig } from '../../src/config/config.ts'
import { Target } from '../../src/daemon/target.ts'
import { Command, Errno } from '../../src/nbd/codec.ts'
import { Device } from '../../src/device/device.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { claimMax, Claims } from '../../src/export/claims.ts'
import { later } from '../mirror/head.ts'
import { nbdLeaf } from '../nbd/leaf.ts'
import { Talker } from '../nbd/talker.ts'
import { flush, read, write } from '../support/io.ts'
import { reaches, remote } from '../wire/rig.ts'
import { MemoryStore } from '../support/memory-store.ts'

const bytes = Buffer.alloc(4096, 1)

/** What is waited for until it is ended. */
function held(): { readonly over: Promise<void>; readonly end: () => void } {
  let end: () => void = () => undefined
  const over = new Promise<void>((resolve) => (end = resolve))
  return { over, end: () => end() }
}

describe('the claim of a device', () => {
  let folder: string
  let target: Target
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dst-claims-'))
  })
  afterEach(() => {
    rmSync(folder, { recursive: true })
  })

  function listening(...protocols: readonly string[]): Promise<void> {
    const listeners = protocols.map((protocol) => ({ protocol, address: `unix:${protocol}` }))
    const path = join(folder, 'disk.img')
    const disk = { type: 'file', path, size: '1M', create: true }
    const exports = { disk: { device: 'disk' } }
    const state = { directory: join(folder, 'state') }
    const { config } = checkConfig({ devices: { disk }, exports, listeners, state }, folder)
    const network = new SocketNetwork()
    const parts = { clock: systemClock, random: systemRandom, slab: new Slab(), log: silentLog }
    target = new Target(config, { ...parts, network })
    return target.start()
  }

  function socket(protocol: string) {
    return { kind: 'unix', path: join(folder, protocol) } as const
  }

  it('is refused beyond what any head comes to, and reset by an operator', async () => {
    await listening('nbd', 'dst')
    const [head, stranger] = [remote(socket('dst'), 'disk'), remote(socket('dst'), 'disk')]
    await Promise.all([head.open(), stranger.open()])
    const claim = (device: Device, epoch: number): Promise<string> =>
      device.driver.claim!(epoch).then(
        () => 'done',
        (error: unknown) => (error as StorageError).code,
      )
    expect(await claim(head, 5)).to.equal('done')
    expect(await claim(stranger, Number.MAX_SAFE_INTEGER)).to.equal('INVALID')
    await write(head, 0, bytes)
    // Nobody gets there in one leap from what a head claims, and whoever did could be outbid.
    for (const leap of [claimMax, 2 ** 52, 2 ** 44 + 1])
      expect(await claim(stranger, leap)).to.equal('INVALID')
    expect(await claim(stranger, 2 ** 44)).to.equal('done')
    expect(await claim(stranger, claimMax)).to.equal('done')
    await stranger.close()
    await reaches(head, ({ state }) => state.word === 'failed')
    expect(await claim(head, claimMax - 1)).to.equal('FENCED')
    await head.close()
    await target.stop()
    await listening('nbd', 'dst')
    expect(await target.resetClaim('disk')).to.deep.equal({ held: claimMax, givenUp: 0 })
    const unknown = await target.resetClaim('dsik').catch((error: unknown) => error)
    expect((unknown as Error).message).to.include('exports: disk')
    const next = remote(socket('dst'), 'disk')
    await next.open()
    expect(await next.driver.claimed!()).to.deep.equal({ held: 0, givenUp: 0 })
    expect(await claim(next, 6)).to.equal('done')
    await write(next, 0, bytes)
    await target.stop()
    await listening('nbd', 'dst')
    await reaches(next, ({ state }) => state.word === 'online')
    await write(next, 0, bytes)
    await next.close()
    await target.stop()
  })

  it('stays as it is while an operator’s word to forget it is not durable', async () => {
    await listening('nbd', 'dst')
    const [head, older] = [remote(socket('dst'), 'disk'), remote(socket('dst'), 'disk')]
    const guest = nbdLeaf(socket('nbd'), 'disk')
    await Promise.all([head.open(), older.open(), guest.open()])
    await head.driver.claim!(5)
    const { store } = target.tree
    const save = store.save.bind(store)
    const codeOf = (outcome: Promise<unknown>): Promise<string> =>
      outcome.then(
        () => 'none',
        (error: unknown) => (error as StorageError).code,
      )
    const isClaimed = async (): Promise<void> => {
      expect(await codeOf(write(guest, 0, bytes))).to.equal('READ_ONLY')
      expect(await codeOf(write(older, 0, bytes))).to.equal('FENCED')
      expect(await codeOf(older.driver.claim!(4))).to.equal('FENCED')
      expect(await codeOf(write(head, 0, bytes))).to.equal('none')
    }
    const resets = [() => target.resetClaim('disk'), () => target.resetAllClaims()]
    for (const reset of resets) {
      store.save = () => Promise.reject(new StorageError('NO_SPACE', 'the disk is full'))
      expect(await codeOf(reset())).to.equal('NO_SPACE')
      await isClaimed()
      const saving = held()
      store.save = (key, text) => saving.over.then(() => save(key, text))
      const hanging = reset()
      await isClaimed()
      const gone = reaches(head, ({ state }) => state.word === 'degraded')
      saving.end()
      await Promise.all([hanging, gone])
      store.save = save
      await reaches(head, ({ state }) => state.word === 'online')
      await isClaimed()
    }
    for (const device of [head, older, guest]) await device.close()
    await target.stop()
  })

  it('is forgotten with all others though the record is read meanwhile', async () => {
    const store = new MemoryStore()
    const device = new Device('disk', new MemoryDriver(1024 * 1024, systemRandom), systemClock)
    await device.open()
    await store.save('target.claims', JSON.stringify({ [device.facts!.identity]: 5 }))
    const load = store.load.bind(store)
    store.load = () => Promise.reject(new StorageError('IO', 'too many open files'))
    const claims = new Claims(store)
    const problems: unknown[] = []
    for (let times = 0; times < 2; times++) claims.ready((problem) => problems.push(problem?.code))
    await later(1)
    expect(problems).to.deep.equal(['IO', 'IO'])
    // While it is saved who comes next has it read again, and that takes longer.
    const [reading, saving] = [held(), held()]
    const [save, old] = [store.save.bind(store), await load('target.claims')]
    store.save = (key, text) => saving.over.then(() => save(key, text))
    const resetting = claims.resetAll()
    await later(1)
    store.load = () => reading.over.then(() => old)
    claims.ready(() => undefined)
    saving.end()
    await resetting
    await claims.set(device, 3)
    reading.end()
    await later(1)
    expect(claims.last(device)).to.equal(3)
    await device.close()
  })

  it('keeps NBD clients from changing it, also after a restart, until it is given up', async () => {
    await listening('nbd', 'dst')
    const head = remote(socket('dst'), 'disk')
    const guest = nbdLeaf(socket('nbd'), 'disk')
    await Promise.all([head.open(), guest.open()])
    await write(guest, 0, bytes)
    await head.driver.claim!(5)
    await write(head, 0, bytes)
    const refusal = async (): Promise<string> =>
      write(guest, 0, bytes).then(
        () => 'none',
        (error: unknown) => (error as StorageError).code,
      )
    expect(await refusal()).to.equal('READ_ONLY')
    expect((await read(guest, 0, 4096)).equals(bytes)).to.equal(true)
    await flush(guest)
    await head.close()
    await target.stop()
    await listening('nbd')
    expect(await refusal(), 'after a restart').to.equal('READ_ONLY')
    await target.stop()
    await listening('nbd', 'dst')
    const again = remote(socket('dst'), 'disk')
    await again.open()
    await again.driver.claim!(5)
    await again.driver.claim!(0)
    await write(guest, 0, bytes)
    for (const device of [again, guest]) await device.close()
    await target.stop()
  })

  it('refuses what an NBD client had begun to send, and waits for what it has sent', async () => {
    await listening('nbd', 'dst')
    const head = remote(socket('dst'), 'disk')
    await head.open()
    const guest = await Talker.using(socket('nbd'), 'disk', false)
    const length = 64 * 1024
    guest.say(guest.request(Command.write, 0, length))
    guest.say(Buffer.alloc(length / 2, 7))
    await later(50)
    await head.driver.claim!(5)
    await write(head, 0, bytes)
    guest.say(Buffer.alloc(length / 2, 7))
    expect((await guest.answer()).error).to.equal(Errno.EPERM)
    expect((await read(head, 0, 4096)).equals(bytes)).to.equal(true)
    guest.close()
    await head.close()
    const claims = new Claims(new MemoryStore())
    const device = target.tree.find('disk')!
    const guests = claims.guestsOf(device)
    guests.began()
    let told = false
    const waiting = claims.unchanging(device).then(() => (told = true))
    await later(10)
    expect(told).to.equal(false)
    guests.ended()
    await waiting
    await target.stop()
  })
})
