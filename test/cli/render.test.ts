import { expect } from 'chai'
import { renderStatus } from '../../src/cli/render.ts'
import type { Client, Device, Status } from '../../src/manage/status.types.ts'

const at = '2026-11-29T12:00:00.000Z'
const now = new Date(at).getTime()
const none = { operations: 0, bytes: 0, errors: 0 }

function device(path: string, more: Partial<Device> = {}): Device {
  return {
    path,
    type: 'file',
    size: 2 ** 26,
    state: 'online',
    reason: '',
    since: at,
    inFlight: 0,
    counters: {
      read: none,
      write: none,
      flush: none,
      trim: none,
      writeZeroes: none,
      status: none,
    },
    latency: {},
    lastError: null,
    abilities: null,
    details: {},
    children: {},
    ...more,
  }
}

function status(home: Device, clients: Client[] = []): Status {
  return {
    version: 1,
    program: 'dst',
    pid: 1,
    startedAt: at,
    state: 'healthy',
    listeners: [],
    exports: {
      home: {
        device: 'home',
        readOnly: false,
        description: '',
        uris: ['nbd://10.0.0.2/home', 'dst://10.0.0.2/home'],
        clients,
      },
    },
    devices: { home },
  }
}

describe('the status for people', () => {
  it('says a reason once, though leg, device and last error have it', () => {
    const why = 'connecting to spare at 10.0.0.9:4470: no answer'
    const right = device('home/right', { type: 'remote', state: 'offline', reason: why })
    const lastError = { code: 'UNAVAILABLE', message: why, device: 'home/right', at }
    const leg = { state: 'missing' as const, reason: why, since: at }
    const legs = { right: { ...leg, device: { ...right, lastError } } }
    const text = renderStatus(status(device('home', { type: 'mirror', legs })), now)
    expect(text.split(why)).to.have.length(2)
    expect(text.split('since')).to.have.length(2)
  })

  it('breaks lines at the width of a terminal, between what it has to say', () => {
    const lastError = { code: 'IO', message: 'a sentence of some length', device: 'home', at }
    const home = device('home', {
      inFlight: 3,
      lastError,
      details: { path: '/srv/images/home.img' },
    })
    const lines = renderStatus(status(home), now, 80).trimEnd().split('\n')
    expect(lines.length).to.be.above(2)
    for (const line of lines) expect(line.length, line).to.be.at.most(80)
    expect(renderStatus(status(home), now)).to.match(/^home .*home\.img.*3 in flight.*last error/m)
  })

  it('breaks sentences as well, but no command in them', () => {
    const hint =
      'it comes back by itself once it is there; another disk in its place: ' +
      '`dst leg attach home right --replace`; to go on without it: `dst leg remove home right`'
    const reason = 'a new volume is created when every leg is there: waiting for left and right'
    const home = device('home', { state: 'opening', reason, details: { hint } })
    const lines = renderStatus(status(home), now, 80).trimEnd().split('\n')
    for (const line of lines) expect(line.length, line).to.be.at.most(80)
    expect(lines.some((line) => line.includes('`dst leg attach home right --replace`'))).to.equal(
      true,
    )
  })

  it('says of a leg why it is away in its own line alone', () => {
    const why = 'connecting to 10.0.0.9:4470: no answer in five seconds'
    const right = device('home/right', { type: 'remote', state: 'opening', reason: why })
    const legs = { right: { state: 'missing' as const, reason: why, since: at, device: right } }
    const reason = `waiting for right (opening: ${why})`
    const home = device('home', { type: 'mirror', state: 'opening', reason, legs })
    const text = renderStatus(status(home), now)
    expect(text.split(why)).to.have.length(2)
    expect(text).to.match(/^home .* {2}waiting for right {2}/m)
  })

  it('tells of no way back for a leg that is there, while the volume waits for another', () => {
    const hint = 'it comes back by itself once it is there'
    const leg = { state: 'missing' as const, since: at, hint }
    const away = device('home/right', { state: 'opening', reason: 'nobody answers there' })
    const legs = {
      left: { ...leg, device: device('home/left') },
      right: { ...leg, reason: away.reason, device: away },
    }
    const home = device('home', { type: 'mirror', state: 'opening', legs })
    const lines = renderStatus(status(home), now).split('\n')
    expect(
      lines.filter((line) => line.includes(hint)).map((line) => line.trim().split(' ')[0]),
    ).to.deep.equal(['right'])
  })

  it('names clients and every address', () => {
    const client = { protocol: 'nbd' as const, connections: 2, inFlight: 1, since: at }
    const clients = Array.from({ length: 22 }, (_, n) => ({ ...client, peer: `10.0.0.3:${n}` }))
    const text = renderStatus(status(device('home'), clients), now)
    expect(text).to.include('    also dst://10.0.0.2/home\n')
    expect(text).to.include('    client 10.0.0.3:7 over nbd, 2 connections, 1 in flight, since ')
    expect(text).to.include('    and 2 more clients\n')
  })

  it('says what is done in a second and how long that takes, of what is not idle', () => {
    const rate = { operationsPerSecond: 300, bytesReadPerSecond: 0, bytesWrittenPerSecond: 2 ** 20 }
    const latency = { write: 2.5, flush: 9 }
    const busy = renderStatus(status(device('home', { rate, latency })), now)
    expect(busy).to.include(
      '300 requests/s, writes 1.0 MiB/s, a write takes 2.5 ms, a flush takes 9 ms',
    )
    const idle = { operationsPerSecond: 0, bytesReadPerSecond: 0, bytesWrittenPerSecond: 0 }
    const quiet = renderStatus(status(device('home', { rate: idle, latency })), now)
    expect(quiet).not.to.include('takes')
  })
})
