import { expect } from 'chai'
import { once } from 'node:events'
import net from 'node:net'
import { systemClock } from '../../src/base/clock.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import type { Export } from '../../src/export/export.ts'
import { Operation } from '../../src/device/request.ts'
import type { Address } from '../../src/net/address.ts'
import { Claims } from '../../src/export/claims.ts'
import {
  Command,
  decodeRequest,
  encodeReply,
  Kind,
  newReplyHeader,
  newRequestHeader,
  replyBytes,
  requestBytes,
} from '../../src/wire/codec.ts'
import { decodePreface, encodeWelcome, Feature, prefaceBytes } from '../../src/wire/hello.ts'
import type { SessionConnection } from '../../src/wire/session-connection.ts'
import { Sessions } from '../../src/wire/session.ts'
import { submit } from '../support/io.ts'
import { GateDriver } from './gate.ts'
import { exampleWelcome } from './messages.ts'
import { remote } from './rig.ts'
import { MemoryStore } from '../support/memory-store.ts'

/** More sessions than a server remembers. */
const many = 4200
const clientOf = (at: number): string => at.toString(16).padStart(32, '0')

describe('the sessions of a server', () => {
  let sessions: Sessions
  let target: Export
  beforeEach(async () => {
    const device = new Device('disk', new GateDriver(MiB), systemClock)
    await device.open()
    target = { name: 'disk', device, readOnly: false, mayClaim: true, description: '' }
    sessions = new Sessions(systemClock, 64 * KiB, new Claims(new MemoryStore()))
  })

  function attach(at: number, epoch: number) {
    const own: SessionConnection = {
      identity: '',
      owner: '',
      index: 0,
      peer: 'test',
      kick: () => undefined,
      tellFacts: () => undefined,
    }
    const decoded = {
      purpose: 1,
      index: 0,
      features: 0,
      client: clientOf(at),
      epoch,
      claim: 0,
      depth: 1,
      name: 'disk',
    }
    const session = sessions.attach(decoded, target, own, () => undefined)!
    return { session, leave: () => sessions.detach(session, own) }
  }

  it('outlive the hellos of any number of strangers who never write', () => {
    const { session, leave } = attach(0, 1)
    session.begin(0, 1, Operation.write)
    session.finish(0, 7, Operation.write)
    leave()
    for (let at = 1; at <= many; at++) attach(at, 1).leave()
    const again = attach(0, 2).session
    expect(again.number).to.equal(session.number)
    // Its answer was lost: the change is sent again, and only answered.
    expect(again.recall(0, 1)).to.equal(7)
  })

  it('have other numbers once they were forgotten, also for who wrote', () => {
    const { session, leave } = attach(0, 1)
    session.begin(0, 1, Operation.write)
    session.finish(0, 0, Operation.write)
    leave()
    const known = attach(0, 2)
    expect(known.session.number).to.equal(session.number)
    known.leave()
    for (let at = 1; at <= many; at++) {
      const writer = attach(at, 1)
      writer.session.begin(0, 1, Operation.write)
      writer.session.finish(0, 0, Operation.write)
      writer.leave()
    }
    expect(sessions.count).to.be.at.most(4096)
    const { session: next } = attach(0, 3)
    expect(next.number).to.not.equal(session.number)
    expect(next.recall(0, 1)).to.equal(-1)
  })

  it('are as many as have connections', () => {
    for (let at = 0; at < many; at++) attach(at, 1)
    expect(sessions.count).to.equal(many)
    // Those that are away now are only the ones beyond.
    for (let at = 0; at < many; at++) attach(many + at, 1).leave()
    expect(sessions.count).to.be.at.most(many + 4096)
  })
})

describe('a client whose session was forgotten', () => {
  /** Answers nothing in its first session, and everything in the second, which is a new one. */
  async function forgetful(seen: number[]): Promise<net.Server> {
    let sessions = 0
    const server = net.createServer((socket) => {
      const number = ++sessions
      let bytes = Buffer.alloc(0)
      let greeted = false
      socket.on('error', () => undefined)
      socket.on('data', (chunk) => {
        bytes = Buffer.concat([bytes, chunk])
        if (!greeted) {
          const preface = decodePreface(bytes, 0)
          if (typeof preface === 'string') return
          bytes = bytes.subarray(prefaceBytes + preface.length)
          greeted = true
          const features = Feature.memory
          socket.write(encodeWelcome({ ...exampleWelcome, features, text: `${number}` }))
        }
        while (bytes.length >= requestBytes) {
          const header = newRequestHeader()
          decodeRequest(bytes, 0, header, false)
          if (bytes.length < requestBytes + header.payload) return
          bytes = bytes.subarray(requestBytes + header.payload)
          if (number > 1) seen.push(header.command)
          const payload = header.command === Command.read ? header.length : 0
          const answer = Buffer.alloc(replyBytes + payload)
          const { slot, sequence } = header
          encodeReply(
            answer,
            0,
            { ...newReplyHeader(), kind: Kind.reply, slot, sequence, payload },
            false,
          )
          if (number > 1) socket.write(answer)
          else if (header.command === Command.read) socket.destroy()
        }
      })
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return server
  }

  it('fails what may have been carried out, sends the rest again, and goes on', async () => {
    const seen: number[] = []
    const server = await forgetful(seen)
    const address: Address = {
      kind: 'tcp',
      host: '127.0.0.1',
      port: (server.address() as net.AddressInfo).port,
    }
    const device = remote(address, 'x', { connections: 1, hold: 10_000 })
    await device.open()
    const block = Buffer.alloc(4096, 7)
    const write = submit(device, Operation.write, 0, 4096, 0, [block])
    const read = submit(device, Operation.read, 0, 4096)
    expect((await write).error?.code).to.equal('STALE')
    expect((await write).error?.message).to.include('forgotten')
    expect((await read).error).to.equal(null)
    expect(seen).to.deep.equal([Command.read])
    expect((await submit(device, Operation.write, 0, 4096, 0, [block])).error).to.equal(null)
    await device.close()
    server.close()
  })
})
