import { expect } from 'chai'
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatUri, parseUri } from '../../src/net/uri.ts'
import { checkConfig, ConfigError, loadConfig } from '../../src/config/config.ts'

const memory = { type: 'memory', size: '1M' }

/** Configurations that nobody in his right mind writes; programs and accidents do. */
describe('a configuration, hostile or by accident,', () => {
  let folder: string
  before(() => (folder = mkdtempSync(join(tmpdir(), 'dst-hostile-'))))
  after(() => rmSync(folder, { recursive: true }))

  /** Every problem: anything but a list of them is thrown, and fails the test. */
  function problems(check: () => unknown): readonly string[] {
    try {
      check()
    } catch (error) {
      if (error instanceof ConfigError) return error.lines
      throw error
    }
    return []
  }

  const devices = (all: object) => problems(() => checkConfig({ devices: all }, folder))
  const device = (one: object) => devices({ a: one })

  function text(content: string): readonly string[] {
    writeFileSync(join(folder, 'c.json'), content)
    return problems(() => loadConfig(join(folder, 'c.json')))
  }

  function expectOne(lines: readonly string[], ...parts: string[]): void {
    expect(lines, JSON.stringify(lines)).to.have.length(1)
    for (const part of parts) expect(lines[0]).to.include(part)
  }

  const nest = (levels: number, open: string, middle: string, close: string): string =>
    `{"devices": {"a": ${open.repeat(levels)}${middle}${close.repeat(levels)}}}`

  it('may be nested as deep as anybody needs, and no deeper', () => {
    const log = '{"type": "log", "device": '
    const linear = '{"type": "linear", "parts": ['
    const leaf = '{"type": "memory", "size": 1048576}'
    expect(text(nest(99, log, leaf, '}'))).to.deep.equal([])
    expect(text(nest(99, linear, leaf, ']}'))).to.deep.equal([])
    expectOne(text(nest(100, log, leaf, '}')), 'at most 100', '/devices/a')
    for (const depth of [1000, 10_000, 100_000]) {
      expectOne(text(nest(depth, log, leaf, '}')), 'nested')
      expectOne(text(nest(depth, '[', '', ']')), 'nested')
    }
    let value: object = memory
    for (let level = 0; level < 10_000; level++) value = { type: 'log', device: value }
    expectOne(device(value), 'nested')
  })

  for (const order of ['first', 'last'])
    it(`is nested as deep when its devices have names, the innermost ${order}`, () => {
      const chain = (length: number) => {
        const all = Array.from({ length }, (_, at): [string, object] =>
          at === 0 ? ['d0', memory] : [`d${at}`, { type: 'log', device: `d${at - 1}` }],
        )
        return Object.fromEntries(order === 'first' ? all : all.reverse())
      }
      expect(devices(chain(100))).to.deep.equal([])
      expectOne(devices(chain(101)), 'at most 100')
      expectOne(devices(chain(20_000)), 'at most 100')
    })

  it('has numbers that are whole and can be exact', () => {
    for (const size of [1e21, 2 ** 53, '9999999P', '0.3', '0.3K', '99999999999999999999'])
      expectOne(device({ type: 'memory', size }), '/devices/a/size')
    for (const time of [1e21, '99999999999999h', '0.3ms'])
      expectOne(
        problems(() => checkConfig({ limits: { handshakeTimeout: time } }, folder)),
        '/limits/handshakeTimeout',
      )
    for (const bytes of [1e30, '9999999P'])
      expectOne(
        problems(() => checkConfig({ limits: { bytesInFlight: bytes } }, folder)),
        '/limits/bytesInFlight',
      )
    // What only looks like a number is none.
    const exports = { x: { device: '1.5', description: '0.3' } }
    const named = { '1.5': memory }
    expect(problems(() => checkConfig({ devices: named, exports }, folder))).to.deep.equal([])
  })

  it('has no time of zero where nothing could ever be done in time', () => {
    for (const [type, uri, keys] of [
      ['remote', 'dst://h/x', ['connectTimeout', 'pingInterval', 'pingTimeout']],
      ['nbd', 'nbd://h/x', ['connectTimeout', 'requestTimeout']],
    ] as const)
      for (const key of keys)
        for (const time of [0, '0s', '0.0h'])
          expectOne(device({ type, uri, [key]: time }), `/devices/a/${key}`)
    for (const key of ['handshakeTimeout', 'sendTimeout'])
      expectOne(
        problems(() => checkConfig({ limits: { [key]: 0 } }, folder)),
        `/limits/${key}`,
      )
    const mirror = { type: 'mirror', legs: { l: memory } }
    for (const key of ['legTimeout', 'legRetry', 'legRetryMax'])
      expectOne(device({ ...mirror, [key]: '0ms' }), `/devices/a/${key}`)
    for (const resync of [{ chunk: 0 }, { chunk: 1000 }, { chunk: '1G' }, { speed: 0 }])
      expectOne(device({ ...mirror, resync }), '/devices/a/resync')
    const uri = 'dst://h/x'
    const pings = { pingInterval: '5s', pingTimeout: '5s' }
    expectOne(device({ type: 'remote', uri, ...pings }), 'pingInterval')
    // The time that is left out follows the one that is written down.
    expect(device({ type: 'remote', uri, pingTimeout: '5s' })).to.deep.equal([])
    expect(device({ type: 'remote', uri, hold: 0, requestTimeout: 0 })).to.deep.equal([])
  })

  it('says of every path what is wrong with it, among all the rest', () => {
    symlinkSync('loop', join(folder, 'loop'))
    writeFileSync(join(folder, 'plain'), Buffer.alloc(4096))
    writeFileSync(join(folder, 'empty'), '')
    writeFileSync(join(folder, 'odd'), Buffer.alloc(1001))
    const made = { create: true, size: '1M' }
    const cases: [string, object, string][] = [
      ['a\0b', made, 'null bytes'],
      ['plain/x', made, 'ENOTDIR'],
      ['plain/x/y', made, 'ENOTDIR'],
      ['loop', {}, 'ELOOP'],
      ['x'.repeat(300), made, 'ENAMETOOLONG'],
      ['absent', { ...made, readOnly: true }, '"readOnly"'],
      ['plain', { size: '1M', grow: true, readOnly: true }, '4096 bytes'],
      ['empty', {}, 'is empty'],
      ['odd', { direct: true }, 'multiple'],
    ]
    for (const [path, more, what] of cases)
      expectOne(device({ type: 'file', path, ...more }), what, '/devices/a/')
    const all = Object.fromEntries(
      cases.map(([path, more], at) => [`d${at}`, { type: 'file', path, ...more }]),
    )
    expect(devices({ ...all, last: { type: 'memry' } })).to.have.length(cases.length + 1)
  })

  it('names exports and sockets that can be named on the way', () => {
    const remote = (name: string) => device({ type: 'remote', uri: `dst://h/${name}` })
    expect(remote('n'.repeat(4096))).to.deep.equal([])
    expectOne(remote('n'.repeat(4097)), 'at most 4096')
    expectOne(remote('n'.repeat(70_000)), 'at most 4096')
    const unix = (path: string) =>
      device({ type: 'nbd', uri: `nbd+unix:///x?socket=${encodeURIComponent(path)}` })
    expectOne(unix(`/${'s'.repeat(200)}`), 'at most 107')
    expectOne(unix('/a\0b'), 'NUL')
    expectOne(unix('\0abstract'), 'NUL')
    const exported = (name: string) =>
      problems(() =>
        checkConfig({ devices: { a: memory }, exports: { [name]: { device: 'a' } } }, folder),
      )
    expectOne(exported('\ud800'), 'cannot be used')
    expect(exported('\ud83d\udcbe')).to.deep.equal([])
  })

  it('may have any character in the path of a socket', () => {
    const path = '/run/a&b=c?d#e+f %41/é;:@,$.sock'
    const uri = formatUri({
      protocol: 'nbd',
      tls: null,
      address: { kind: 'unix', path },
      name: 'x',
    })
    expect(parseUri(uri)).to.deep.include({ address: { kind: 'unix', path } })
    const { config } = checkConfig({ devices: { a: { type: 'nbd', uri } } }, folder)
    expect(parseUri((config.devices['a'] as { uri: string }).uri)).to.deep.include({
      address: { kind: 'unix', path },
    })
  })

  it('may begin with a byte order mark, as some editors have it', () => {
    expect(text('\ufeff{"devices": {}}')).to.deep.equal([])
    expectOne(text('\ufeff{"devices": 5}'), 'found 5')
  })
})
