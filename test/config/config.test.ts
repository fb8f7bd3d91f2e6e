import { expect } from 'chai'
import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseSource } from '../../src/config/source.ts'
import { patienceOf } from '../../src/config/patience.ts'
import { checkConfig, ConfigError, loadConfig } from '../../src/config/config.ts'

const memory = { type: 'memory', size: '64M' }

describe('a configuration', () => {
  let folder: string
  before(() => (folder = mkdtempSync(join(tmpdir(), 'dst-config-'))))
  after(() => rmSync(folder, { recursive: true }))

  /** What is wrong with it: each line begins as `what (where`. */
  function problems(value: unknown): readonly string[] {
    try {
      checkConfig(value, folder)
    } catch (error) {
      if (error instanceof ConfigError) return error.lines
      throw error
    }
    return []
  }

  /** One problem, whose line has all of `parts`. */
  function expectProblem(value: unknown, ...parts: string[]): void {
    const lines = problems(value)
    expect(lines, JSON.stringify(lines)).to.have.length(1)
    for (const part of parts) expect(lines[0]).to.include(part)
  }

  const devices = (all: object) => ({ devices: all })

  it('is filled in', () => {
    const { config } = checkConfig(
      { exports: { '': { device: 'a' } }, devices: { a: memory } },
      '/',
    )
    expect(config.exports['']!.readOnly).to.equal(false)
    expect(config.limits.payload).to.equal('32M')
    expect(config.listeners).to.deep.equal([])
  })

  it('keeps relative paths as they were written, and uses absolute ones', () => {
    const file = { type: 'file', path: 'a.img', size: '1M', create: true }
    const legs = { path: { type: 'linear', parts: ['a'] } }
    const { config, shown } = checkConfig(
      {
        devices: { a: file, m: { type: 'mirror', legs } },
        management: { address: 'unix:m.sock' },
        state: { directory: 's' },
      },
      folder,
    )
    expect(config.devices['a']).to.include({ path: join(folder, 'a.img') })
    expect(config.management).to.deep.include({ address: `unix:${join(folder, 'm.sock')}` })
    expect(config.state.directory).to.equal(join(folder, 's'))
    expect(JSON.stringify(shown)).not.to.include(folder)
  })

  it('reports everything at once', () => {
    const lines = problems({
      listners: [],
      devices: {
        a: { type: 'memry', size: '64M' },
        b: { type: 'linear', parts: ['c'] },
        d: { ...memory, siz: 3 },
        e: { type: 'remote', uri: 'http://h/x' },
      },
      exports: { x: { device: 'dd' } },
      limits: { sendTimeout: '3 s' },
    })
    expect(lines).to.have.length(7)
  })

  it('gives an example of what would do', () => {
    expectProblem({ exports: { a: 'disk' } }, 'found "disk", allowed: object, such as {"device":')
    expectProblem({ management: 'unix:x' }, 'such as {"address":"unix:data/dst.sock"}')
    expectProblem({ limits: { connections: 0 } }, 'such as 1')
    expectProblem({ log: 'info' }, 'object, such as {"level":"debug"}')
    const a = { type: 'file', path: 'a', size: '1M', create: 1 }
    expect(() => checkConfig(devices({ a }), '/')).to.throw(
      'found 1, allowed: boolean, such as true',
    )
    expect(() => parseSource('# words\n{}')).to.throw('comments begin with //')
    expect(() => parseSource("{'devices': {}}")).to.throw('double quotes')
  })

  it('names the nearest word and what is allowed', () => {
    expectProblem({ lisseners: [] }, 'did you mean "listeners"?', 'allowed: $schema, listeners')
    expectProblem(devices({ a: { type: 'liner', parts: [memory] } }), 'did you mean "linear"?')
    expectProblem(
      devices({ a: { type: 'linear', parts: [{ type: 'memory', siez: 4, size: 4 }] } }),
      'unknown property "siez" (did you mean "size"?)',
      '(/devices/a/parts/0/siez',
    )
    expectProblem({ exports: { x: { device: 'hone' } }, devices: { home: memory } }, '"home"')
  })

  it('refuses values of the wrong kind', () => {
    expectProblem(7, 'found 7, allowed: object')
    expectProblem({ listeners: {} }, 'found {}, allowed: array')
    expectProblem(devices({ a: 5 }), 'found 5', '/devices/a')
    expectProblem(devices({ a: {} }), '"type" is missing')
    expectProblem(devices({ a: { type: 'file' } }), '"path" is missing')
    expectProblem(devices({ 'a/b': memory }), '"a/b" cannot be used')
    expectProblem(devices({ a: { type: 'linear', parts: [] } }), 'found []')
    expectProblem({ exports: { 'a\n': { device: 'a' } }, devices: { a: memory } }, 'control')
    expectProblem({ log: { level: 'trace' } }, 'allowed: debug, info, warn, error')
    expect(problems(JSON.parse('{"__proto__": {}}'))).to.have.length(1)
    expect(
      problems(JSON.parse('{"devices": {"constructor": {"type": "linear"}}}')).length,
    ).to.equal(1)
  })

  it('refuses sizes and durations that are none', () => {
    for (const size of ['64X', '1.0000001K', -1, 0.5, '', '9999999999P'])
      expect(problems(devices({ a: { type: 'memory', size } })), `${size}`).to.have.length(1)
    expectProblem(devices({ a: { type: 'memory', size: '0' } }), 'a device has a size')
    expectProblem(devices({ a: { type: 'memory', size: '1P' } }), 'at most 64T')
    for (const [offset, length] of [
      ['8P', '1M'],
      ['0', '0.3'],
    ])
      expectProblem(
        devices({ a: { type: 'error', device: memory, range: { offset, length } } }),
        'no whole number of bytes',
      )
    expectProblem({ limits: { sendTimeout: '1d' } }, 'ms, s, m or h')
    expectProblem({ limits: { payload: '1K' } }, '64K to 32M')
    expectProblem({ limits: { bytesInFlight: '1M' } }, 'less than one payload')
  })

  it('refuses names that lead nowhere', () => {
    expectProblem(devices({ a: { type: 'linear', parts: ['b'] } }), 'no device is named "b"')
    expectProblem({ exports: { x: { device: 'l/1' } }, devices: { l: memory } }, 'no device is at')
  })

  it('refuses cycles, and says which way they go', () => {
    const lines = problems(
      devices({
        a: { type: 'linear', parts: [{ type: 'linear', parts: ['b'] }] },
        b: { type: 'mirror', legs: { x: { device: 'a' } } },
        self: { type: 'log', device: 'self' },
      }),
    )
    expect(lines).to.have.length(2)
    expect(lines[0]).to.include('a → b → a')
    expect(lines[1]).to.include('self → self')
  })

  it('refuses a device with two parents', () => {
    expectProblem(
      devices({ a: memory, b: { type: 'linear', parts: ['a', 'a'] } }),
      '"a" is already part of another device (/devices/b/parts/0)',
    )
  })

  it('exports what has a parent for reading alone', () => {
    const tree = devices({ a: memory, l: { type: 'linear', parts: ['a', memory] } })
    for (const device of ['a', 'l/1']) {
      expectProblem({ ...tree, exports: { x: { device } } }, '"readOnly": true')
      expect(problems({ ...tree, exports: { x: { device, readOnly: true } } })).to.deep.equal([])
    }
    expect(problems({ ...tree, exports: { x: { device: 'l' } } })).to.deep.equal([])
  })

  it('refuses addresses that are none, or used twice', () => {
    const listen = (...addresses: string[]) => ({
      listeners: addresses.map((address) => ({ protocol: 'nbd', address })),
    })
    expectProblem(listen('no where:1'), 'no address', 'unix:PATH')
    expectProblem(listen('h:70000'), 'no address')
    expectProblem(listen('127.0.0.1:5', '127.0.0.1:5'), 'used twice', '/listeners/0/address')
    expectProblem(listen('127.0.0.1', '0.0.0.0:10809'), 'used twice')
    expectProblem(listen('unix:a', `unix:${join(folder, 'a')}`), 'used twice')
    expectProblem(listen(`unix:${'x'.repeat(200)}`), 'at most 107')
    expectProblem({ ...listen('unix:a'), management: { address: 'unix:a' } }, 'used twice')
    expectProblem({ management: { address: 'localhost' } }, 'HOST:PORT, [IPV6]:PORT')
    expect(problems(listen('127.0.0.1:0', '127.0.0.1:0', '[::1]', '127.0.0.1'))).to.deep.equal([])
  })

  it('refuses numbers of users and groups that nobody has', () => {
    const owned = (owner: string) => ({
      listeners: [{ protocol: 'nbd', address: 'unix:a', owner }],
    })
    for (const number of ['4294967295', '4294967296', '9'.repeat(30)])
      expectProblem(owned(number), 'highest number', '/listeners/0/owner')
    expectProblem({ management: { address: 'unix:m', group: '4294967295' } }, '/management/group')
    expect(problems(owned('4294967294'))).to.deep.equal([])
  })

  it('refuses URIs that lead nowhere, or to the same place twice', () => {
    const at = (uri: string, type = 'remote') => devices({ a: { type, uri } })
    expectProblem(at('dst:/x'), 'not a URI')
    expectProblem(at('nbd://h/x'), 'for an NBD server use type nbd')
    expectProblem(at('dst://h/x', 'nbd'), 'for another target use type remote')
    expectProblem(at('nbds://h/x?tls-x=1', 'nbd'), 'unknown parameter tls-x')
    expectProblem(at('nbd://h/x?tls-psk-file=k', 'nbd'), 'is for TLS')
    const sealed = { a: { type: 'nbd', uri: 'nbd://h/x' }, b: { type: 'nbd', uri: 'nbds://h/x' } }
    expectProblem(devices(sealed), 'is already the device a')
    const twice = { a: { type: 'nbd', uri: 'nbd://h/x' }, b: { type: 'nbd', uri: 'nbd://h/x' } }
    expectProblem(devices(twice), 'is already the device a')
  })

  it('refuses what a mirror cannot be', () => {
    const mirror = (more: object) =>
      devices({ m: { type: 'mirror', legs: { left: memory, right: memory }, ...more } })
    expect(problems(mirror({}))).to.deep.equal([])
    expectProblem(mirror({ minInSync: 3 }), 'there are 2 legs')
    expectProblem(mirror({ source: 'lefty' }), 'did you mean "left"?')
    expectProblem(mirror({ extentSize: '100K' }), 'a power of two')
    expectProblem(mirror({ legs: {} }), '/devices/m/legs')
    expectProblem(mirror({ legs: { a: { readLast: true } } }), '"type" is missing')
  })

  it('gives a leg the time that a remote below it holds requests for, and says so', () => {
    const far = { type: 'remote', uri: 'dst://h/x' }
    const warningsOf = (legs: object, more: object = {}): readonly string[] =>
      checkConfig(devices({ far, m: { type: 'mirror', legs, ...more } }), folder).warnings
    expect(warningsOf({ left: memory, right: 'far' })).to.deep.equal([])
    expect(
      warningsOf({ left: memory, right: { ...far, uri: 'dst://h/z', hold: '6s' } }),
    ).to.deep.equal([])
    const parts = [memory, { ...far, uri: 'dst://h/y', hold: '30s' }]
    const legs = { left: memory, right: { device: { type: 'linear', parts } } }
    expect(warningsOf(legs)).to.deep.equal([
      '31 s count instead of 7s, because right/1 holds requests for longer ' +
        '(/devices/m/legTimeout in configuration)',
    ])
    expect(warningsOf(legs, { legTimeout: '1m' })).to.deep.equal([])
  })

  it('knows what to expect of a remote by what is written and where it is', () => {
    expect(patienceOf({}, 'alone')).to.deep.equal({
      hold: 30_000,
      pingInterval: 5000,
      pingTimeout: 15_000,
    })
    const { hold, pingInterval, pingTimeout } = patienceOf(
      { pingInterval: '4s', hold: 0 },
      'below-mirror',
    )
    expect([hold, pingInterval, pingTimeout]).to.deep.equal([0, 4000, 12_000])
    expect(patienceOf({ pingTimeout: '3s' }, 'below-mirror')).to.include({
      pingInterval: 1000,
      hold: 1000,
    })
  })

  it('refuses files that are not there, or not usable', () => {
    const file = (path: string, more: object = {}) =>
      devices({ a: { type: 'file', path, ...more } })
    writeFileSync(join(folder, 'small.img'), Buffer.alloc(1000))
    mkdirSync(join(folder, 'directory'))
    expectProblem(file('none.img'), 'is not there; "create": true would make it')
    expectProblem(file('none.img', { create: true }), 'a "size" is needed')
    expectProblem(file('directory'), 'is a directory')
    expectProblem(file('/dev/null'), 'neither a file nor a block device')
    expectProblem(file('small.img', { size: '1M' }), 'has 1000 bytes', '/devices/a/size', 'grow')
    expectProblem(file('small.img', { size: 999, grow: true }), 'not 999')
    expect(problems(file('small.img', { size: '1M', grow: true }))).to.deep.equal([])
  })

  it('refuses keys that are not there, or not for their owner alone', () => {
    const crypt = (key: string) => devices({ c: { type: 'crypt', device: memory, key } })
    writeFileSync(join(folder, 'disk.key'), 'secret', { mode: 0o600 })
    expect(problems(crypt('file:disk.key')), 'relative to the configuration').to.deep.equal([])
    expect(problems(crypt('credential:disk'))).to.deep.equal([])
    chmodSync(join(folder, 'disk.key'), 0o640)
    expectProblem(crypt('file:disk.key'), 'chmod 600', '/devices/c/key')
    expectProblem(crypt('file:none.key'), 'is not there')
    expectProblem(crypt('secret'), 'a key comes from')
    expectProblem(crypt('command:cat x'), 'no absolute path')
  })

  it('refuses two devices on one file, whatever it is called', () => {
    const real = join(folder, 'real.img')
    writeFileSync(real, Buffer.alloc(4096))
    symlinkSync(real, join(folder, 'soft.img'))
    linkSync(real, join(folder, 'hard.img'))
    const two = (path: string, more: object = {}) =>
      devices({
        a: { type: 'file', path: 'real.img', ...more },
        b: { type: 'file', path, ...more },
      })
    for (const path of ['real.img', './directory/../real.img', 'soft.img', 'hard.img'])
      expectProblem(two(path), 'is already the device a')
    expect(problems(two('hard.img', { readOnly: true }))).to.deep.equal([])
    const absent = { type: 'file', size: '1M', create: true }
    const both = { a: { ...absent, path: 'new.img' }, b: { ...absent, path: './new.img' } }
    expectProblem(devices(both), 'is already the device a')
  })

  describe('as a file', () => {
    function lines(text: string): readonly string[] {
      const file = join(folder, 'config.json')
      writeFileSync(file, text)
      try {
        loadConfig(file)
      } catch (error) {
        if (error instanceof ConfigError) return error.lines
        throw error
      }
      return []
    }

    it('is known by its lines', () => {
      expect(
        lines('{\n  "devices": {\n    "a": {\n      "type": "memory",\n      "siz": 4\n'),
      ).to.have.length(1)
      const text = '{\n "devices": {\n  "a": {\n   "type": "memory",\n   "size": "x"\n  }\n }\n}'
      expect(lines(text)[0]).to.match(/\(\/devices\/a\/size, line 5, column \d+ of config.json\)$/)
    })

    it('says where it stops being JSON', () => {
      expect(lines('{\n  "devices": }')[0]).to.match(/^not JSON: .*line 2, column 14/)
      expect(lines('')[0]).to.match(/^not JSON/)
    })

    it('may have comments, and commas after the last', () => {
      const text =
        '{ // served\n "devices": { /* one */ "a": { "type": "memory", "size": "4M", }, },\n}'
      expect(lines(text)).to.deep.equal([])
      expect(lines('{ "devices": { } /* never closed')[0]).to.include('*/ is missing')
      const wrong = text.replace('"4M"', '"4MiB"')
      expect(lines(wrong)[0]).to.match(/mean "4M"\?\).*line 2, column \d+ of config\.json/)
    })

    it('is given an example with each error', () => {
      const missing = lines('{ "devices": { "a": { "type": "memory" } } }')[0]
      expect(missing).to.match(/^"size" is missing, such as "size": /)
      const wrong = lines('{ "devices": { "a": { "type": "memory", "size": true } } }')[0]
      expect(wrong).to.match(/^found true, allowed: .*, such as /)
      expect(lines('{ "devices" { } }')[0]).to.include('a colon is missing')
      expect(lines("{ 'devices': { } }")[0]).to.include('double quotes')
    })

    it('is refused before it is parsed where it is nested without end', () => {
      expect(lines('['.repeat(1_000_000))[0]).to.include('nested more than')
    })

    it('gives nothing twice', () => {
      const text =
        '{"devices":\n{"a": {"type":"memory","size":1},\n"a":{"type":"memory","size":2}}}'
      expect(lines(text)).to.have.length(1)
      expect(lines(text)[0]).to.match(/"a" is given twice, also in line 2 .*line/)
    })

    it('has to be there', () => {
      expect(() => loadConfig(join(folder, 'absent.json'))).to.throw(ConfigError, /no such file/)
    })
  })
})
