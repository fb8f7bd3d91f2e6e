import { expect } from 'chai'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import tls from 'node:tls'
import { systemClock } from '../../src/base/clock.ts'
import { MiB } from '../../src/base/size.ts'
import { Credential } from '../../src/net/tls/credential.ts'
import { ServerTls } from '../../src/net/tls/server.ts'
import { Command } from '../../src/nbd/codec.ts'
import * as options from '../../src/nbd/options.ts'
import { Option, Reply } from '../../src/nbd/options.ts'
import { makeKeys } from '../support/authority.ts'
import { Rig } from './rig.ts'
import { Talker, type OptionAnswer } from './talker.ts'

describe('STARTTLS of the NBD server', () => {
  let folder: string
  let rig: Rig
  let key: Buffer
  let talker: Talker

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'dst-nbd-tls-'))
    const path = join(folder, 'keys.psk')
    key = makeKeys(path, 'alice').get('alice')!
    const keys = { path, needed: true }
    const credential = new Credential(
      { kind: 'keys', keys, user: null, minVersion: '1.3' },
      systemClock,
    )
    credential.read()
    rig = new Rig({ handshakeTimeout: 1000 })
    rig.exports.tls = { mode: 'required', side: new ServerTls(credential) }
    await rig.listen()
    await rig.addMemory('disk', MiB)
    talker = await Talker.greeted(rig.tcp)
  })

  afterEach(async () => {
    talker.close()
    await rig.close()
    expect(rig.slab.bytesHeld).to.equal(0)
    expect(rig.admission.bytesInFlight).to.equal(0)
    rmSync(folder, { recursive: true })
  })

  function types(answers: OptionAnswer[]): number[] {
    return answers.map(({ type }) => type)
  }

  /** The conversation goes on under TLS. */
  async function seal(): Promise<Talker> {
    expect(types(await talker.option(Option.startTls))).to.deep.equal([Reply.ack])
    talker.socket.removeAllListeners('data')
    const sealed = tls.connect({
      socket: talker.socket,
      ciphers: 'TLS_AES_128_GCM_SHA256',
      pskCallback: () => ({ identity: 'alice', psk: key }),
      checkServerIdentity: () => undefined,
    })
    await once(sealed, 'secureConnect')
    return new Talker(sealed)
  }

  it('comes before all else where it is required', async () => {
    const long = Buffer.alloc(100_000)
    for (const [option, data] of [
      [Option.list, Buffer.alloc(0)],
      [Option.structuredReply, Buffer.alloc(0)],
      [Option.go, options.encodeInfoRequest({ name: 'disk', infos: [] })],
      [Option.info, options.encodeInfoRequest({ name: 'nothing', infos: [] })],
      [Option.setMetaContext, Buffer.from('x')],
      [Option.go, long],
      [77, Buffer.alloc(0)],
    ] as const)
      expect(types(await talker.option(option, data)), String(option)).to.deep.equal([
        Reply.errTlsReqd,
      ])
    expect(types(await talker.option(Option.startTls, Buffer.from('x')))).to.deep.equal([
      Reply.errInvalid,
    ])
    expect(types(await talker.option(Option.abort))).to.deep.equal([Reply.ack])
    await talker.closed()
    const other = await Talker.greeted(rig.tcp)
    other.say(options.encodeOption(Option.exportName, Buffer.from('disk')))
    expect((await other.closed()).length).to.equal(0)
  })

  it('forgets what was agreed before, where it is allowed', async () => {
    rig.exports.tls = { ...rig.exports.tls!, mode: 'allowed' }
    expect(types(await talker.option(Option.structuredReply))).to.deep.equal([Reply.ack])
    const asked = options.encodeMetaRequest({ name: 'disk', queries: [options.allocationContext] })
    expect(types(await talker.option(Option.setMetaContext, asked))).to.include(Reply.ack)
    const sealed = await seal()
    // Without structured replies there is no context to choose, and a read has a simple reply.
    expect(types(await sealed.option(Option.setMetaContext, asked))).to.deep.equal([
      Reply.errInvalid,
    ])
    expect(types(await sealed.option(Option.startTls))).to.deep.equal([Reply.errInvalid])
    expect(types(await sealed.go('disk')).at(-1)).to.equal(Reply.ack)
    const { error, chunks, data } = await sealed.ask(Command.read, 0, 4096)
    expect({ error, chunks, bytes: data.length }).to.deep.equal({
      error: 0,
      chunks: 0,
      bytes: 4096,
    })
    const [client] = rig.service.clients()
    expect(client).to.include({ identity: 'psk:alice', export: 'disk' })
    sealed.close()
  })

  it('ends with bytes in clear behind it, in the same packet and in the next', async () => {
    const begin = options.encodeOption(Option.startTls, Buffer.alloc(0))
    const more = options.encodeOption(Option.structuredReply, Buffer.alloc(0))
    talker.say(Buffer.concat([begin, more]))
    expect((await talker.closed()).length).to.equal(0)
    const other = await Talker.greeted(rig.tcp)
    expect(types(await other.option(Option.startTls))).to.deep.equal([Reply.ack])
    other.say(more)
    // What comes is an alert at most: no reply to the option.
    const said = await other.closed()
    expect(said.includes(Buffer.from('0003e889045565a9', 'hex'))).to.equal(false)
  })

  it('has no more time than the whole negotiation', async () => {
    expect(types(await talker.option(Option.startTls))).to.deep.equal([Reply.ack])
    await talker.closed()
    // The server hears of the end in a turn of its own.
    while (rig.service.clients().length > 0) await new Promise((next) => setImmediate(next))
  })

  it('is not slower for one client because of another that stops in the middle', async () => {
    const stuck: Talker[] = []
    for (let n = 0; n < 30; n++) {
      const one = await Talker.greeted(rig.tcp)
      await one.option(Option.startTls)
      one.say(Buffer.from([0x16, 0x03, 0x01]))
      stuck.push(one)
    }
    const sealed = await seal()
    expect(types(await sealed.go('disk')).at(-1)).to.equal(Reply.ack)
    sealed.close()
    for (const one of stuck) await one.closed()
  })
})
