import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import * as options from '../../src/nbd/options.ts'
import { Info, Option, Reply, TransmissionFlag } from '../../src/nbd/options.ts'
import { GateDriver } from './gate.ts'
import { Rig } from './rig.ts'
import { Talker, type OptionAnswer } from './talker.ts'

const MiB = 1024 * 1024

describe('the NBD server’s handshake', () => {
  let rig: Rig
  let talker: Talker
  beforeEach(async () => {
    rig = new Rig({ handshakeTimeout: 2000 })
    await rig.listen()
    await rig.addMemory('disk', MiB)
    await rig.addMemory('other', 2 * MiB, true)
    talker = await Talker.greeted(rig.unix)
  })
  afterEach(async () => {
    talker.close()
    await rig.close()
    expect(rig.slab.bytesHeld).to.equal(0)
  })

  function types(answers: OptionAnswer[]): number[] {
    return answers.map(({ type }) => type)
  }

  it('lists the exports', async () => {
    const answers = await talker.option(Option.list)
    expect(types(answers)).to.deep.equal([Reply.server, Reply.server, Reply.ack])
    const names = answers.slice(0, 2).map(({ data }) => options.decodeServer(data)!.name)
    expect(names).to.deep.equal(['disk', 'other'])
  })

  it('answers options that it does not know or does not want, and goes on', async () => {
    const data = Buffer.from('data')
    expect(types(await talker.option(77, data))).to.deep.equal([Reply.errUnsup])
    expect(types(await talker.option(Option.startTls))).to.deep.equal([Reply.errPolicy])
    expect(types(await talker.option(Option.startTls, data))).to.deep.equal([Reply.errInvalid])
    expect(types(await talker.option(Option.list, data))).to.deep.equal([Reply.errInvalid])
    expect(types(await talker.option(Option.structuredReply, data))).to.deep.equal([
      Reply.errInvalid,
    ])
    expect(types(await talker.option(Option.go, data))).to.deep.equal([Reply.errInvalid])
    const long = Buffer.alloc(100_000)
    expect(types(await talker.option(Option.go, long))).to.deep.equal([Reply.errTooBig])
    expect(types(await talker.go('nowhere'))).to.deep.equal([Reply.errUnknown])
    expect(types(await talker.option(Option.abort))).to.deep.equal([Reply.ack])
    await talker.closed()
  })

  it('tells what an export is before it is used', async () => {
    const infos = [Info.name, Info.description, Info.blockSize, 99]
    const data = options.encodeInfoRequest({ name: 'other', infos })
    const answers = await talker.option(Option.info, data)
    const items = answers.slice(0, -1).map((answer) => options.decodeInfo(answer.data))
    expect(items).to.deep.equal([
      {
        info: Info.export,
        size: BigInt(2 * MiB),
        flags:
          TransmissionFlag.hasFlags |
          TransmissionFlag.readOnly |
          TransmissionFlag.flush |
          TransmissionFlag.multiConn |
          TransmissionFlag.cache,
      },
      { info: Info.name, text: 'other' },
      { info: Info.blockSize, minimum: 1, preferred: 4096, maximum: 32 * MiB },
    ])
    expect(types(await talker.go('disk'))).to.deep.equal([Reply.info, Reply.info, Reply.ack])
  })

  it('answers an option that is too long once all of it is here', async () => {
    const option = options.encodeOption(Option.go, Buffer.alloc(100_000))
    talker.say(option.subarray(0, -1))
    let told = false
    const answered = talker.optionReplies(Option.go)
    void answered.then(() => (told = true))
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate)
    expect(told).to.equal(false)
    talker.say(option.subarray(-1))
    expect(types(await answered)).to.deep.equal([Reply.errTooBig])
  })

  it('answers an option that is too long also when that takes a while', async () => {
    // The process runs for longer than a payload may take.
    const clock = { ...systemClock, now: () => systemClock.now() + 60_000 }
    const old = new Rig({}, 'landing', clock)
    await old.listen()
    const client = await Talker.greeted(old.unix)
    const option = options.encodeOption(Option.go, Buffer.alloc(100_000))
    client.say(option.subarray(0, -1))
    await sleep(1200)
    client.say(option.subarray(-1))
    expect(types(await client.optionReplies(Option.go))).to.deep.equal([Reply.errTooBig])
    client.close()
    await old.close()
  })

  it('lets nobody use an export any more who waits for it while the server stops', async () => {
    const gate = new GateDriver(MiB, false)
    await rig.add('late', gate)
    talker.say(
      options.encodeOption(Option.go, options.encodeInfoRequest({ name: 'late', infos: [] })),
    )
    const other = await Talker.using(rig.unix, 'disk', true)
    talker.socket.pause()
    const drained = rig.service.drain()
    await gate.goOnline()
    expect(rig.service.clients().map(({ export: name }) => name)).to.have.members([null, 'disk'])
    talker.socket.resume()
    other.close()
    await drained
  })

  it('tells who does not ask of a limit that the kernel would exceed', async () => {
    const narrow = new Rig({ payload: 64 * 1024 })
    await narrow.addMemory('disk', MiB)
    await narrow.listen()
    const client = await Talker.greeted(narrow.unix)
    expect(types(await client.go('disk', []))).to.deep.equal([Reply.errBlockSizeReqd])
    expect(types(await client.go('disk'))).to.deep.equal([Reply.info, Reply.info, Reply.ack])
    client.close()
    const old = await Talker.greeted(narrow.unix)
    old.say(options.encodeOption(Option.exportName, Buffer.from('disk')))
    await old.closed()
    await narrow.close()
  })

  it('takes EXPORT_NAME, with and without zeroes', async () => {
    for (const flags of [1, 3]) {
      const other = await Talker.greeted(rig.tcp, flags)
      other.say(options.encodeOption(Option.exportName, Buffer.from('disk')))
      const reply = await other.take(flags === 1 ? 134 : 10)
      expect(reply.readBigUInt64BE(0)).to.equal(BigInt(MiB))
      expect((await other.ask(0, 0, 512)).data.equals(Buffer.alloc(512))).to.equal(true)
      other.close()
    }
    talker.say(options.encodeOption(Option.exportName, Buffer.from('nowhere')))
    expect((await talker.closed()).length).to.equal(0)
  })

  it('gives the empty name to the only export, and to none of several', async () => {
    expect(types(await talker.go(''))).to.deep.equal([Reply.errUnknown])
    const single = new Rig()
    await single.listen()
    await single.addMemory('only', MiB)
    const other = await Talker.using(single.unix, '', false)
    other.close()
    await single.close()
  })

  it('closes on what is not the protocol', async () => {
    talker.say(Buffer.alloc(16, 0x55))
    await talker.closed()
    const flags = await Talker.greeted(rig.unix, 4)
    await flags.closed()
    const long = await Talker.greeted(rig.unix)
    long.say(options.encodeOption(Option.exportName, Buffer.alloc(20_000, 0x41)))
    await long.closed()
  })

  it('selects the allocation context, only with structured replies', async () => {
    const meta = (queries: string[], name = 'disk'): Buffer =>
      options.encodeMetaRequest({ name, queries })
    const { setMetaContext, listMetaContext } = Option
    const early = await talker.option(setMetaContext, meta(['base:allocation']))
    expect(types(early)).to.deep.equal([Reply.errInvalid])
    await talker.option(Option.structuredReply)
    const one = [Reply.metaContext, Reply.ack]
    for (const queries of [[], ['base:'], ['base:allocation'], ['x:y', 'base:allocation']])
      expect(types(await talker.option(listMetaContext, meta(queries)))).to.deep.equal(one)
    for (const queries of [['x:'], ['base:other'], ['qemu:dirty-bitmap:a']])
      expect(types(await talker.option(listMetaContext, meta(queries)))).to.deep.equal([Reply.ack])
    for (const queries of [[], ['base:']])
      expect(types(await talker.option(setMetaContext, meta(queries)))).to.deep.equal([Reply.ack])
    const selected = await talker.option(setMetaContext, meta(['base:allocation']))
    expect(types(selected)).to.deep.equal(one)
    expect(options.decodeMetaContext(selected[0]!.data)!.name).to.equal('base:allocation')
    const unknown = await talker.option(setMetaContext, meta(['base:allocation'], 'nowhere'))
    expect(types(unknown)).to.deep.equal([Reply.errUnknown])
    const broken = await talker.option(setMetaContext, Buffer.from('00000000ffffffff', 'hex'))
    expect(types(broken)).to.deep.equal([Reply.errInvalid])
  })

  it('drops who is silent after half a header, and serves the others', async () => {
    talker.say(Buffer.from('49484156', 'hex'))
    const started = systemClock.now()
    await talker.closed()
    expect(systemClock.now() - started).to.be.above(50)
    const other = await Talker.using(rig.unix, 'disk', true)
    expect((await other.ask(0, 0, 512)).error).to.equal(0)
    other.close()
  })

  it('has GO wait for a device that is not there yet', async () => {
    const gate = new GateDriver(MiB, false)
    await rig.add('late', gate)
    const answer = talker.go('late')
    const known = await Talker.greeted(rig.unix)
    const info = options.encodeInfoRequest({ name: 'late', infos: [] })
    expect(types(await known.option(Option.info, info))).to.deep.equal([Reply.errUnknown])
    known.close()
    await gate.goOnline()
    expect((await answer).at(-1)!.type).to.equal(Reply.ack)
    expect((await talker.ask(0, 0, 512)).error).to.equal(0)
  })

  it('says why when the device does not come in time', async () => {
    await rig.add('never', new GateDriver(MiB, false))
    const [answer] = await talker.go('never')
    expect(answer!.type).to.equal(Reply.errUnknown)
    expect(answer!.data.toString()).to.contain('not there yet')
    await talker.closed()
  })

  it('takes no more connections than it may', async () => {
    const small = new Rig({ connections: 3 })
    await small.listen()
    await small.addMemory('m', MiB)
    const kept = await Promise.all([1, 2, 3].map(() => Talker.using(small.unix, 'm', false)))
    const refused = await Talker.connect(small.unix)
    expect((await refused.closed()).length).to.equal(0)
    for (const one of kept) expect((await one.ask(0, 0, 512)).error).to.equal(0)
    for (const one of kept) one.close()
    await small.close()
  })
})
