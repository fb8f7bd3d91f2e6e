import { expect } from 'chai'
import fc from 'fast-check'
import { Extents, extentHole, extentZero } from '../../src/device/extents.ts'
import * as codec from '../../src/nbd/codec.ts'
import * as options from '../../src/nbd/options.ts'

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(' ', ''), 'hex')
}

/** What `encode` writes, after bytes that must stay as they are. */
function written(length: number, encode: (bytes: Buffer, at: number) => void): string {
  const bytes = Buffer.alloc(length + 8, 0xee)
  encode(bytes, 4)
  expect(bytes.subarray(0, 4).toString('hex')).to.equal('eeeeeeee')
  expect(bytes.subarray(length + 4).toString('hex')).to.equal('eeeeeeee')
  return bytes.subarray(4, length + 4).toString('hex')
}

describe('NBD transmission messages', () => {
  const request = hex('25609513 0001 0001 fedcba9876543210 0000000180000200 00001000')

  it('have the golden bytes of a request', () => {
    const header = new codec.RequestHeader()
    expect(header.decode(request, 0)).to.equal(null)
    expect(header).to.deep.include({
      flags: codec.CommandFlag.fua,
      type: codec.Command.write,
      cookieHigh: 0xfedcba98 | 0,
      cookieLow: 0x76543210,
      offset: 0x1_8000_0200,
      length: 4096,
    })
    const again = written(codec.requestBytes, (bytes, at) => header.encode(bytes, at))
    expect(again).to.equal(request.toString('hex'))
  })

  it('have the golden bytes of a simple reply', () => {
    const golden = '674466980000001c0000000100000002'
    const bytes = written(16, (to, at) => codec.encodeSimpleReply(to, at, 28, 1, 2))
    expect(bytes).to.equal(golden)
    const reply = new codec.ReplyHeader()
    expect(reply.decode(hex(golden), 0, 16)).to.equal(null)
    expect(reply).to.include({ structured: false, error: 28, cookieHigh: 1, cookieLow: 2 })
  })

  it('have the golden bytes of a chunk', () => {
    const golden = '668e33ef00010001000000010000000200001008'
    const bytes = written(20, (to, at) => codec.encodeChunk(to, at, 1, 1, 1, 2, 4104))
    expect(bytes).to.equal(golden)
    const reply = new codec.ReplyHeader()
    expect(reply.decode(hex(golden), 0, 20)).to.equal(null)
    expect(reply).to.include({ structured: true, flags: 1, type: 1, length: 4104 })
    expect(reply).to.include({ cookieHigh: 1, cookieLow: 2 })
  })

  it('have the golden bytes of an error', () => {
    const golden = '000000160003' + Buffer.from('bad').toString('hex')
    const bytes = written(9, (to, at) => {
      codec.encodeErrorPayload(to, at, 22, 3)
      to.write('bad', at + 6)
    })
    expect(bytes).to.equal(golden)
    const decoded = codec.decodeErrorPayload(hex(golden), 0, 9)
    expect(decoded).to.deep.equal({ error: 22, message: 'bad' })
  })

  it('have the golden bytes of a block status', () => {
    const extents = new Extents()
    extents.add(65536, extentHole | extentZero)
    extents.add(4096, 0)
    extents.add(512, extentZero)
    const golden = '00000001 00010000 00000003 00001000 00000000 00000200 00000002'
    const bytes = written(28, (to, at) => codec.encodeBlockStatus(to, at, 1, extents, 3))
    expect(bytes).to.equal(hex(golden).toString('hex'))
    for (const flags of [0, extentZero, extentHole, extentZero | extentHole]) {
      const one = new Extents()
      one.add(1, flags)
      const status = Buffer.alloc(12)
      codec.encodeBlockStatus(status, 0, 1, one, 1)
      expect(codec.extentFlagsOf(status.readUInt32BE(8))).to.equal(flags)
    }
  })

  it('are refused with another magic', () => {
    const other = Buffer.from(request)
    other[3]! ^= 1
    expect(new codec.RequestHeader().decode(other, 0)).to.equal('magic')
    expect(new codec.ReplyHeader().decode(other, 0, 28)).to.equal('magic')
  })

  it('of errors are refused when the message is longer than the chunk', () => {
    expect(codec.decodeErrorPayload(hex('000000160004626164'), 0, 9)).to.equal(null)
    expect(codec.decodeErrorPayload(hex('0000001600'), 0, 5)).to.equal(null)
  })

  it('come back as they were', () => {
    fc.assert(
      fc.property(
        fc.record({
          flags: fc.nat(0xffff),
          type: fc.nat(0xffff),
          cookieHigh: fc.integer(),
          cookieLow: fc.integer(),
          offset: fc.maxSafeNat(),
          length: fc.nat(0xffff_ffff),
        }),
        (fields) => {
          const bytes = Buffer.alloc(codec.requestBytes)
          Object.assign(new codec.RequestHeader(), fields).encode(bytes, 0)
          const header = new codec.RequestHeader()
          expect(header.decode(bytes, 0)).to.equal(null)
          expect(header).to.deep.include(fields)
        },
      ),
    )
  })
})

describe('NBD handshake messages', () => {
  const name = Buffer.from('disk')
  const empty = Buffer.alloc(0)

  const golden: [string, Buffer, string][] = [
    ['greeting', options.encodeGreeting(), '4e42444d41474943 49484156454f5054 0003'],
    ['client flags', options.encodeClientFlags(3), '00000003'],
    ['option', options.encodeOption(1, name), '49484156454f5054 00000001 00000004 6469736b'],
    [
      'acknowledgement',
      options.encodeOptionReply(7, 1, empty),
      '0003e889045565a9 00000007 00000001 00000000',
    ],
    [
      'refusal',
      options.encodeOptionReply(5, options.Reply.errUnsup, empty),
      '0003e889045565a9 00000005 80000001 00000000',
    ],
    [
      'answer to EXPORT_NAME',
      options.encodeExportNameReply(2 ** 40, 0x1ed, 'none'),
      '0000010000000000 01ed',
    ],
    [
      'answer to EXPORT_NAME with zeroes',
      options.encodeExportNameReply(512, 1, 'zeroes'),
      '0000000000000200 0001' + '00'.repeat(124),
    ],
    [
      'request of GO',
      options.encodeInfoRequest({ name: 'disk', infos: [3, 1] }),
      '00000004 6469736b 0002 0003 0001',
    ],
    [
      'request of a context',
      options.encodeMetaRequest({ name: 'disk', queries: ['base:'] }),
      '00000004 6469736b 00000001 00000005 626173653a',
    ],
    ['context', options.encodeMetaContext(1, 'base:'), '00000001 626173653a'],
    [
      'listed export',
      options.encodeServer({ name: 'disk', description: 'a' }),
      '00000004 6469736b 61',
    ],
    [
      'export info',
      options.encodeInfo({ info: 0, size: 4096n, flags: 0x1ed }),
      '0000 0000000000001000 01ed',
    ],
    ['name info', options.encodeInfo({ info: 1, text: 'disk' }), '0001 6469736b'],
    ['description info', options.encodeInfo({ info: 2, text: 'a' }), '0002 61'],
    [
      'block size info',
      options.encodeInfo({ info: 3, minimum: 512, preferred: 4096, maximum: 2 ** 25 }),
      '0003 00000200 00001000 02000000',
    ],
  ]
  for (const [what, bytes, expected] of golden)
    it(`have the golden bytes of: ${what}`, () => {
      expect(bytes.toString('hex')).to.equal(hex(expected).toString('hex'))
    })

  it('come back as they were', () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 40 })
    fc.assert(
      fc.property(text, fc.array(fc.nat(0xffff)), fc.array(text), (label, infos, queries) => {
        const info = { name: label, infos }
        expect(options.decodeInfoRequest(options.encodeInfoRequest(info))).to.deep.equal(info)
        const meta = { name: label, queries }
        expect(options.decodeMetaRequest(options.encodeMetaRequest(meta))).to.deep.equal(meta)
        const listing = { name: label, description: queries.join() }
        expect(options.decodeServer(options.encodeServer(listing))).to.deep.equal(listing)
      }),
    )
  })

  it('that are noise give null or something, and never throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (noise) => {
        const bytes = Buffer.from(noise)
        options.decodeInfoRequest(bytes)
        options.decodeMetaRequest(bytes)
        options.decodeServer(bytes)
        options.decodeMetaContext(bytes)
        options.decodeInfo(bytes)
        codec.decodeErrorPayload(bytes, 0, bytes.length)
      }),
    )
  })

  it('say what a server is that cannot be used', () => {
    expect(options.decodeGreeting(options.encodeGreeting(), 0)).to.equal(3)
    const old = hex('4e42444d41474943 00420281861253 0000000000000000')
    const padded = Buffer.concat([old.subarray(0, 8), hex('0000420281861253'), Buffer.alloc(2)])
    expect(options.decodeGreeting(padded, 0)).to.contain('old style')
    expect(options.decodeGreeting(Buffer.alloc(18), 0)).to.equal('not an NBD server')
  })
})
