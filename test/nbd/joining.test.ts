import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import type { Device } from '../../src/device/device.ts'
import { Operation } from '../../src/device/request.ts'
import { Command } from '../../src/nbd/codec.ts'
import { read, submit, write } from '../support/io.ts'
import { chunk, data, FakeServer, shakeHands, simple, takeRequest, words } from './fake.ts'
import { nbdLeaf } from './leaf.ts'
import type { Talker } from './talker.ts'

const manner = { size: MiB, structured: false, multiConn: true }

/** Carries out what it is asked: what is read is `fill` everywhere. */
async function answer(talker: Talker, fill: number, whether = () => true): Promise<void> {
  for (;;) {
    const request = await takeRequest(talker)
    if (!whether()) continue
    talker.say(simple(request, 0))
    if (request.type === Command.read) talker.say(Buffer.alloc(request.length, fill))
  }
}

async function settled(so: () => boolean): Promise<void> {
  while (!so()) await new Promise((resolve) => setImmediate(resolve))
}

describe('a further connection of an nbd leaf', () => {
  let server: FakeServer
  let leaf: Device
  afterEach(async () => {
    await leaf.close()
    await server.close()
  })

  /** Each connection is played by the script of its place; the last one also those after it. */
  async function begin(requestTimeout: number, ...scripts: ((talker: Talker) => Promise<void>)[]) {
    let count = 0
    server = await FakeServer.start((talker) =>
      scripts[Math.min(count++, scripts.length - 1)]!(talker),
    )
    const options = { connections: 2, connectTimeout: 30_000, requestTimeout, quiesce: 0 }
    leaf = nbdLeaf(server.address, 'm', options)
    await leaf.open()
  }

  it('is not used where the server restarted, and the first one does not know', async () => {
    let lost = false
    let restarted: () => void = () => undefined
    const later = new Promise<void>((resolve) => (restarted = resolve))
    await begin(
      400,
      async (talker) => {
        await shakeHands(talker, manner)
        await answer(talker, 2, () => !lost)
      },
      async (talker) => {
        await later
        await shakeHands(talker, manner)
        await answer(talker, 1)
      },
    )
    await write(leaf, 0, Buffer.alloc(4096, 2))
    lost = true
    restarted()
    await settled(() => leaf.driver.describe()['connections'] === 2)
    const { bootId } = leaf.facts!
    const reads = [0, 1, 2, 3].map(async () => {
      const { error } = await submit(leaf, Operation.read, 0, 4096)
      return error !== null || leaf.facts!.bootId !== bootId
    })
    expect(await Promise.all(reads)).to.deep.equal([true, true, true, true])
  })

  it('is used once the first one has answered since', async () => {
    const script = async (talker: Talker): Promise<void> => {
      await shakeHands(talker, manner)
      await answer(talker, 1)
    }
    await begin(30_000, script)
    await settled(() => leaf.driver.describe()['connections'] === 2)
    while (leaf.driver.describe()['joining'] !== 0) await read(leaf, 0, 4096)
  })

  it('is not asked for what it has not agreed on, as the first one has', async () => {
    const context = Buffer.from([0, 0, 0, 5])
    const asked: string[] = []
    const play =
      (structured: boolean) =>
      async (talker: Talker): Promise<void> => {
        await shakeHands(talker, { ...manner, structured })
        for (;;) {
          const request = await takeRequest(talker)
          const { type, length, offset } = request
          if (!structured && type === Command.blockStatus) asked.push(`${offset}`)
          if (type === Command.blockStatus)
            talker.say(chunk(request, 5, Buffer.concat([context, words(length, 0)]), true))
          else if (structured && type === Command.read)
            talker.say(chunk(request, 1, data(offset, length), true))
          else talker.say(simple(request, 0))
          if (!structured && type === Command.read) talker.say(Buffer.alloc(length, 1))
        }
      }
    await begin(30_000, play(true), play(false), play(true))
    const { restarts } = leaf.driver
    const ask = (): Promise<unknown> =>
      Promise.all(Array.from({ length: 8 }, () => submit(leaf, Operation.status, 0, 4096)))
    const isSettled = (): boolean =>
      leaf.driver.restarts !== restarts && leaf.driver.describe()['connections'] === 2
    while (!isSettled() && asked.length === 0) await ask()
    expect(asked).to.deep.equal([])
  })
})
