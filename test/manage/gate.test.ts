import { expect } from 'chai'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { local, remoteAt } from '../../src/net/identity.ts'
import { isTokenName, lineOfToken, parseTokens, TokenFile } from '../../src/net/tokens.ts'
import { Attempts } from '../../src/manage/attempts.ts'
import { Gate, Refusal, type Peer } from '../../src/manage/gate.ts'
import { ManualClock } from '../support/clock.ts'

describe('a file of tokens', () => {
  const line = lineOfToken('grafana', 'view', 'secret')

  it('has a name, a role and a hash in each line', () => {
    expect(line).to.match(/^grafana:view:[0-9a-f]{64}$/)
    const tokens = parseTokens(
      `# for the dashboard\n\n${line}\r\n${lineOfToken('b', 'manage', 'x')}`,
    )
    if (typeof tokens === 'string') throw new Error(tokens)
    expect(tokens.map(({ name, role }) => `${name} ${role}`)).to.deep.equal([
      'grafana view',
      'b manage',
    ])
    expect(parseTokens('')).to.deep.equal([])
  })

  it('is refused with the line at fault, of which nothing is shown', () => {
    for (const [text, why] of [
      ['dst_secretsecret', /^line 1: it is not name:role:hash/],
      [`${line}\ngrafana:view:dst_secretsecret`, /^line 2: it is not/],
      [line.slice(0, -1), /^line 1: it is not/],
      [`x${line}y`, /^line 1: it is not/],
      [line.replace('view', 'root'), /^line 1: the role is not one of view, manage/],
      [`${line}\n${lineOfToken('grafana', 'view', 'other')}`, /^line 2: the name is there already/],
      [`${line}\n${lineOfToken('b', 'manage', 'secret')}`, /^line 2: the token is there already/],
      [
        Array.from({ length: 1001 }, (_, at) => lineOfToken(`t${at}`, 'view', `${at}`)).join('\n'),
        /more than 1000 tokens/,
      ],
    ] as const) {
      const found = parseTokens(text)
      expect(found).to.match(why)
      expect(found).to.not.contain('secret')
    }
  })

  it('takes names that a line and a log can have', () => {
    for (const name of ['ops', 'a.b@c-d_e', '0']) expect(isTokenName(name), name).to.equal(true)
    for (const name of ['', ':', 'a:b', 'a b', '-a', 'a\n', 'é', 'x'.repeat(65)])
      expect(isTokenName(name), name).to.equal(false)
  })
})

describe('the gate of a management', () => {
  let folder: string
  let clock: ManualClock
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dst-gate-'))
    clock = new ManualClock()
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  function tokens(...lines: readonly string[]): TokenFile {
    const path = join(folder, 'tokens')
    writeFileSync(path, lines.join('\n'), { mode: 0o600 })
    const file = new TokenFile(path, clock)
    file.read()
    expect(file.problem).to.equal('')
    return file
  }

  const from = (host: string): Peer => ({
    identity: remoteAt(host),
    text: `${host}:1`,
    origin: host,
    unproven: '',
  })

  function statusOf(work: () => unknown): number {
    try {
      work()
    } catch (error) {
      if (error instanceof Refusal) return error.status
      throw error
    }
    return 200
  }

  it('goes by the first rule that is for a client, and lets nobody else in', () => {
    const gate = new Gate(
      [
        { address: '10.0.0.9', role: 'view' },
        { address: '10.0.0.0/24', role: 'manage' },
      ],
      null,
      clock,
    )
    expect(gate.admit(from('10.0.0.9'), undefined).role).to.equal('view')
    expect(gate.admit(from('10.0.0.8'), undefined).role).to.equal('manage')
    expect(statusOf(() => gate.admit(from('10.0.1.8'), undefined))).to.equal(401)
    expect(statusOf(() => gate.admit({ ...from(''), identity: local }, undefined))).to.equal(401)
  })

  it('goes by the token alone where one is sent', () => {
    const file = tokens(lineOfToken('v', 'view', 'good'))
    const gate = new Gate([{ address: '10.0.0.0/8', role: 'manage' }], file, clock)
    const peer = from('10.0.0.1')
    for (const text of ['Bearer good', 'bearer  good '])
      expect(gate.admit(peer, text)).to.deep.equal({ name: 'token:v', role: 'view' })
    for (const text of ['', 'Bearer', 'Bearer ', 'Bearer bad', 'Basic good', 'Bearer good good'])
      expect(
        statusOf(() => gate.admit(peer, text)),
        text,
      ).to.equal(401)
    expect(statusOf(() => new Gate([], null, clock).admit(peer, 'Bearer good'))).to.equal(401)
  })

  it('looks at few wrong tokens of one peer, and at those of others all the same', () => {
    const gate = new Gate([], tokens(lineOfToken('v', 'view', 'good')), clock)
    const send = (host: string, token: string): number =>
      statusOf(() => gate.admit(from(host), `Bearer ${token}`))
    for (let at = 0; at < 10; at++) expect(send('10.0.0.1', `bad${at}`)).to.equal(401)
    expect(send('10.0.0.1', 'bad')).to.equal(429)
    expect(send('10.0.0.1', 'good')).to.equal(429)
    expect(send('10.0.0.2', 'good')).to.equal(200)
    clock.advance(60_000)
    expect(send('10.0.0.1', 'good')).to.equal(200)
  })

  it('forgets peers, and does not grow with them', () => {
    const attempts = new Attempts(clock)
    for (let at = 0; at < 5000; at++)
      for (let wrong = 0; wrong < 10; wrong++) attempts.failed(`peer ${at}`)
    const blocked = Array.from({ length: 5000 }, (_, at) => attempts.wait(`peer ${at}`))
    expect(blocked.filter((wait) => wait > 0)).to.have.length(1024)
    expect(blocked.at(-1)).to.equal(60)
  })
})
