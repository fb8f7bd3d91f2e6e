import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { Command } from '../../src/wire/codec.ts'
import { Purpose } from '../../src/wire/hello.ts'
import { listExports } from '../../src/wire/list.ts'
import { statusOk } from '../../src/wire/status.ts'
import { timelessClock } from '../support/clock.ts'
import { RawClient, hello, request } from './raw.ts'
import { clientContext, Target } from './rig.ts'

/** What the longest write has, but for what goes beside it. */
const longest = 32 * MiB
const noise = Buffer.alloc(MiB, 0x5a)

const manners: Readonly<Record<string, (client: RawClient) => void>> = {
  'announce a payload and send nothing': (client) => {
    client.send(request({ command: Command.write, length: longest, payload: longest }))
  },
  'send all of a payload but the last byte': (client) => {
    client.send(request({ command: Command.write, length: longest, payload: longest }))
    for (let left = longest - 1; left > 0; left -= noise.length)
      client.send(noise.subarray(0, Math.min(left, noise.length)))
  },
  'ask for all they can and read nothing': (client) => {
    client.socket.pause()
    for (let slot = 0; slot < 64; slot++) client.send(request({ slot, length: MiB }))
  },
  'ask for what is allocated and read nothing': (client) => {
    client.socket.pause()
    for (let slot = 0; slot < 1000; slot++)
      client.send(request({ command: Command.status, slot, length: 64 * MiB }))
  },
}

describe('clients of DST/1 beside nine strangers who', function () {
  let target: Target
  let strangers: RawClient[]
  beforeEach(async () => {
    target = new Target({ clock: timelessClock() })
    await target.start()
    await target.addMemory('disk', 64 * MiB)
    await target.addMemory('other', 64 * MiB)
    strangers = await Promise.all(Array.from({ length: 9 }, (_, at) => greeted('disk', at)))
  })
  afterEach(async () => {
    for (const stranger of strangers) stranger.destroy()
    await target.stop()
    expect(target.admission.bytesInFlight).to.equal(0)
    expect(target.slab.bytesHeld).to.equal(0)
  })

  async function greeted(name: string, at: number): Promise<RawClient> {
    const client = await RawClient.connect(target.unix)
    client.send(hello({ name, depth: 1024, client: `${at}`.padStart(32, '0') }))
    expect((await client.welcome()).status).to.equal(statusOk)
    return client
  }

  /** Waits until the target has taken from the strangers what it takes. */
  async function settled(): Promise<void> {
    for (let before = -1; before !== target.admission.bytesInFlight;) {
      before = target.admission.bytesInFlight
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  for (const [name, act] of Object.entries(manners))
    it(`${name} are served`, async () => {
      for (const stranger of strangers) act(stranger)
      await settled()
      const client = await greeted('other', 99)
      const depth = 4
      for (let round = 1; round <= 4; round++) {
        for (let slot = 0; slot < depth; slot++) {
          const offset = slot * MiB
          const write = { command: Command.write, slot, sequence: 2 * round, offset, length: MiB }
          client.send(request(write, Buffer.alloc(MiB, round)))
        }
        for (let left = depth; left > 0; left--)
          expect((await client.reply()).header.status).to.equal(statusOk)
        for (let slot = 0; slot < depth; slot++) {
          client.send(request({ slot, sequence: 2 * round + 1, offset: slot * MiB, length: MiB }))
          const { payload } = await client.reply()
          expect(payload.equals(Buffer.alloc(MiB, round))).to.equal(true)
        }
      }
      client.destroy()
    })

  it('ask for the list and read nothing hold nothing of their own', async () => {
    for (let at = 0; at < 400; at++)
      target.exports.set(`e${at}`.padEnd(4000, 'x'), target.exports.find('disk')!.device)
    const before = process.memoryUsage().arrayBuffers
    const deaf = await Promise.all(
      Array.from({ length: 50 }, async () => {
        const client = await RawClient.connect(target.unix)
        client.socket.pause()
        client.send(hello({ purpose: Purpose.list, name: '' }))
        return client
      }),
    )
    await settled()
    const client = await greeted('other', 99)
    expect(target.admission.bytesInFlight).to.equal(0)
    expect(process.memoryUsage().arrayBuffers - before).to.be.below(24 * MiB)
    expect(await listExports(clientContext(), target.unix, 10_000)).to.have.length(402)
    client.destroy()
    for (const each of deaf) each.destroy()
  })

  it('announce a payload and send nothing can write the longest themselves', async () => {
    for (const stranger of strangers) manners['announce a payload and send nothing']!(stranger)
    await settled()
    const client = await greeted('other', 99)
    const write = { command: Command.write, length: longest }
    client.send(request(write, Buffer.alloc(longest, 3)))
    expect((await client.reply()).header.status).to.equal(statusOk)
    client.destroy()
  })
})
