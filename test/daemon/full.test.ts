import { expect } from 'chai'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { MiB } from '../../src/base/size.ts'
import { Slab } from '../../src/base/slab.ts'
import type { Device } from '../../src/device/device.ts'
import { Operation } from '../../src/device/request.ts'
import { SocketNetwork } from '../../src/net/sockets.ts'
import { checkConfig } from '../../src/config/config.ts'
import { Target } from '../../src/daemon/target.ts'
import { flush, read, submit, write } from '../support/io.ts'
import { Loops, run } from '../support/loop.ts'
import { needPrograms } from '../support/programs.ts'

/** Bytes of the file system: less than the file in it seems to have. */
const roomBytes = 12 * MiB
const block = Buffer.alloc(MiB, 7)

interface LegWords {
  readonly state: string
  readonly reason: string
}

function legOf(home: Device, name: string): LegWords {
  return (home.driver.describe()['legs'] as Record<string, LegWords>)[name]!
}

/** Resolves when the leg is in that state. */
function legIs(home: Device, name: string, state: string): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (legOf(home, name).state !== state) return
      home.unwatch(look)
      resolve()
    }
    home.watch(look)
    look()
  })
}

for (const kind of ['tmpfs', 'ext4'])
  describe(`a leg on a ${kind} that is full`, () => {
    const loops = new Loops()
    let folder: string
    let room: string
    let target: Target | null = null
    let home: Device

    before(function () {
      needPrograms(this, 'fallocate', ...(kind === 'ext4' ? ['mkfs.ext4'] : []))
      Loops.need(this)
    })
    beforeEach(async () => {
      folder = mkdtempSync(join(tmpdir(), 'dst-full-'))
      room = join(folder, 'room')
      mkdirSync(room)
      if (kind === 'tmpfs') run('mount', '-t', kind, '-o', `size=${roomBytes}`, 'none', room)
      else {
        const disk = loops.make(folder, roomBytes)
        run('mkfs.ext4', '-q', '-O', '^has_journal', disk)
        run('mount', disk, room)
      }
      const file = (path: string) => ({ type: 'file', path, size: '32M', create: true })
      const legs = { left: file('left.img'), right: file('room/right.img') }
      const mirror = { type: 'mirror', size: '16M', legs, legRetry: '100ms', legRetryMax: '200ms' }
      const tree = { devices: { home: mirror }, state: { directory: 'state' } }
      const parts = { clock: systemClock, random: systemRandom, slab: new Slab(), log: silentLog }
      const world = { ...parts, network: new SocketNetwork() }
      target = new Target(checkConfig(tree, folder).config, world)
      await target.start()
      home = target.tree.find('home')!
      await legIs(home, 'right', 'in-sync')
    })
    afterEach(async () => {
      await target?.stop()
      target = null
      run('umount', room)
      loops.close()
      rmSync(folder, { recursive: true })
    })

    /** Writes what the leg has no room for: all of it is acknowledged, by the other one. */
    async function overfill(): Promise<void> {
      for (let at = 0; at < 14; at++) await write(home, at * MiB, block)
      await flush(home)
      await legIs(home, 'right', 'failed')
      expect(legOf(home, 'right').reason).to.match(/ENOSPC|no space/i)
    }

    async function bothHave(bytes: Buffer): Promise<void> {
      await legIs(home, 'right', 'in-sync')
      await flush(home)
      for (const name of ['left.img', 'room/right.img']) {
        const content = readFileSync(join(folder, name)).subarray(0, bytes.length)
        expect(content.equals(bytes), name).to.equal(true)
      }
    }

    it('comes back by itself once there is room', async () => {
      const ballast = join(room, 'ballast')
      const { bavail, bsize } = statfsSync(room)
      writeFileSync(ballast, Buffer.alloc(bavail * bsize - 6 * MiB))
      for (let at = 0; at < 7; at++) await write(home, at * MiB, block)
      await flush(home)
      await legIs(home, 'right', 'failed')
      expect(legOf(home, 'right').reason).to.match(/ENOSPC|no space/i)
      rmSync(ballast)
      await bothHave(Buffer.alloc(7 * MiB, 7))
      expect((await read(home, 6 * MiB, MiB)).equals(block)).to.equal(true)
    })

    it('comes back by itself once enough was trimmed, which makes room on it first', async () => {
      await overfill()
      const { error } = await submit(home, Operation.trim, 0, 10 * MiB)
      expect(error).to.equal(null)
      await bothHave(Buffer.concat([Buffer.alloc(10 * MiB), Buffer.alloc(4 * MiB, 7)]))
    })
  })
