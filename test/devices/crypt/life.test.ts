import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import type { Clock } from '../../../src/base/clock.ts'
import { systemClock } from '../../../src/base/clock.ts'
import { systemRandom } from '../../../src/base/random.ts'
import { MiB } from '../../../src/base/size.ts'
import { Slab } from '../../../src/base/slab.ts'
import { Device, type Facts } from '../../../src/device/device.ts'
import { Operation, Request, type Completer } from '../../../src/device/request.ts'
import { CryptDriver, type CryptOptions } from '../../../src/devices/crypt/crypt.ts'
import { Deriver } from '../../../src/devices/crypt/deriver.ts'
import { Layer } from '../../../src/devices/faults/layer.ts'
import { MemoryDriver } from '../../../src/devices/memory.ts'
import { removeFolder, temporaryFolder } from '../../support/files.ts'
import { format, headerBytes, keyIn, passphrase, until } from './support.ts'

const dataBytes = 4 * MiB

/** Becomes another device, or goes and comes back, as the test says; counts writes. */
class Place extends Layer {
  readonly type = 'place'
  writes = 0
  private name = ''
  private away = false

  submit(request: Request): void {
    if (request.operation === Operation.write) this.writes++
    this.below.submit(request)
  }

  describe(): Record<string, unknown> {
    return {}
  }

  become(name: string): void {
    this.name = name
    this.update()
  }

  leaveAndReturn(): void {
    for (const away of [true, false]) {
      this.away = away
      this.update()
    }
  }

  protected override factsAbove(below: Facts): Facts {
    return { ...below, identity: this.name === '' ? below.identity : this.name }
  }

  protected override update(): void {
    if (this.away) this.host!.offline('offline', 'away')
    else super.update()
  }
}

describe('the life of crypt', () => {
  let folder: string
  let place: Place
  let device: Device
  let time: number

  async function make(key: CryptOptions['key']): Promise<void> {
    const driver = new MemoryDriver(dataBytes + headerBytes, systemRandom)
    const memory = new Device('l/m', driver, systemClock)
    await memory.open()
    await format(memory)
    place = new Place(memory)
    time = 0
    const clock = Object.assign(Object.create(systemClock) as Clock, { now: () => time })
    const below = new Device('l/device', place, systemClock)
    const crypt = new CryptDriver(below, { key, discard: false }, { slab: new Slab(), clock })
    device = new Device('l', crypt, systemClock)
  }

  beforeEach(async () => {
    folder = await temporaryFolder()
  })
  afterEach(async () => {
    await device.close()
    await removeFolder(folder)
  })

  it('sends nothing by the old key to a device that has taken the place', async () => {
    await make(keyIn(folder))
    await device.open()
    const failed: string[] = []
    const again: Completer = {
      completed(request) {
        const { error } = request
        request.release()
        if (error === null) return
        failed.push(error.code)
        if (failed.length === 1) write(4096)
      },
    }
    const write = (length: number): void => {
      const request = Request.take(Operation.write, 0, length, 0, again)
      request.append(Buffer.alloc(length), null)
      device.submit(request)
    }
    write(MiB)
    // More than is encrypted at once: this one waits for the end of the turn.
    write(4096)
    const before = place.writes
    time = 1000
    place.become('another')
    expect(place.writes, 'writes to the other device').to.equal(before)
    expect(failed).to.deep.equal(['UNAVAILABLE', 'UNAVAILABLE'])
    await until(device, ({ usable }) => usable)
  })

  it('begins again where the device below changes while a failure is told', async () => {
    const key = keyIn(folder, 'wrong')
    await make(key)
    let told = false
    device.watch(({ state }) => {
      if (state.word !== 'failed' || told) return
      told = true
      keyIn(folder)
      place.leaveAndReturn()
    })
    void device.open()
    await until(device, ({ usable }) => usable)
    expect(told).to.equal(true)
  })

  it('ends with no wait for a program that prints no key', async () => {
    const pidFile = join(folder, 'pid')
    const script = `echo $$ >${pidFile}.new; mv ${pidFile}.new ${pidFile}; exec sleep 1000`
    writeFileSync(pidFile, '')
    await make({ kind: 'command', words: ['/bin/sh', '-c', script] })
    const opening = device.open()
    let pid = 0
    while (pid === 0) {
      await new Promise((resolve) => setImmediate(resolve))
      pid = Number(readFileSync(pidFile, 'utf8'))
    }
    await device.close()
    await opening
    while (isRunning(pid)) await new Promise((resolve) => setImmediate(resolve))
  })

  it('ends with no wait for the derivation of another device', async () => {
    await make(keyIn(folder))
    const [busy, idle] = [new Deriver(systemClock), new Deriver(systemClock)]
    const salt = Buffer.alloc(32)
    const kdf = { kind: 'argon2id', passes: 100_000, memory: MiB, lanes: 1, salt } as const
    const slot = { id: 0, hash: 'sha256', keyBytes: 64, offset: 0, reserved: 256_000 } as const
    const keyslot = { ...slot, kdf, areaKeyBytes: 64, priority: 1 }
    const digest = { hash: 'sha256', iterations: 1, salt, value: salt } as const
    const ended: string[] = []
    const derive = (deriver: Deriver, name: string): Promise<void> =>
      deriver
        .open(Buffer.from(passphrase), keyslot, Buffer.alloc(256_000), digest)
        .catch((error: unknown) => ended.push(`${name} ${(error as { code: string }).code}`))
        .then(() => undefined)
    const first = derive(busy, 'first')
    const second = derive(idle, 'second')
    idle.close()
    await second
    busy.close()
    await first
    expect(ended).to.deep.equal(['second SHUTDOWN', 'first SHUTDOWN'])
  })
})

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
