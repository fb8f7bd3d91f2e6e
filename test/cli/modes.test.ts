import { expect } from 'chai'
import { chmodSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { dst, Workshop } from '../support/process.ts'
import { runProgram } from '../support/programs.ts'

const memory = { type: 'memory', size: '1M' }
const isRoot = process.getuid?.() === 0

describe('the sockets of a target', function () {
  let workshop: Workshop
  let mask: number

  beforeEach(() => {
    workshop = new Workshop()
    mask = process.umask(0)
  })
  afterEach(async () => {
    process.umask(mask)
    await workshop.close()
  })

  /** Permissions, owner and group. */
  function rightsOf(name: string): [string, number, number] {
    const { mode, uid, gid } = statSync(join(workshop.folder, name))
    return [(mode & 0o777).toString(8), uid, gid]
  }

  function config(rights: object): object {
    return {
      listeners: [
        { protocol: 'nbd', address: 'unix:n.sock', ...rights },
        { protocol: 'dst', address: 'unix:d.sock', ...rights },
      ],
      management: { address: 'unix:m.sock', ...rights },
      devices: { a: memory },
      exports: { a: { device: 'a' } },
    }
  }

  const sockets = ['n.sock', 'd.sock', 'm.sock']

  it('are its own user’s alone, also with a umask that allows all', async () => {
    await workshop.serve('t', config({}))
    for (const name of sockets) expect(rightsOf(name)[0], name).to.equal('600')
  })

  it('have the mode, owner and group that are configured', async function () {
    if (!isRoot) this.skip()
    await workshop.serve('t', config({ mode: '0660', owner: '12345', group: 'daemon' }))
    const group = Number((await runProgram('id', ['-g', 'daemon'])).stdout)
    for (const name of sockets) expect(rightsOf(name)).to.deep.equal(['660', 12345, group])
    chmodSync(workshop.folder, 0o755)
    const socket = join(workshop.folder, 'n.sock')
    const connect = `require('net').connect('${socket}').on('connect', () => process.exit(0))`
    const as = (...ids: string[]) =>
      runProgram('setpriv', [...ids, '--clear-groups', process.execPath, '-e', connect])
    expect((await as('--reuid=54321', `--regid=${group}`)).code).to.equal(0)
    expect((await as('--reuid=54321', '--regid=54321')).stderr).to.contain('EACCES')
  })

  it('are refused with a sentence where that cannot be', async () => {
    workshop.write('t', config({ group: 'no-such-group' }))
    const { code, stderr } = await dst(['serve', 't.json'], workshop.folder)
    expect(code).to.equal(2)
    expect(stderr).to.contain('there is no group "no-such-group" on this machine')
    const tcp = { protocol: 'nbd', address: '127.0.0.1:10809', mode: '0600' }
    workshop.write('t', { listeners: [tcp] })
    const checked = await dst(['check', 't.json'], workshop.folder)
    expect(checked.stderr).to.contain('"mode" is for unix sockets')
    workshop.write('t', { listeners: [{ ...tcp, address: 'unix:n.sock', mode: 660 }] })
    expect((await dst(['check', 't.json'], workshop.folder)).code).to.equal(2)
  })

  it('of a bridge have the rights that its options say', async () => {
    await workshop.serve('t', config({}))
    const uri = `dst+unix:///a?socket=${join(workshop.folder, 'd.sock')}`
    await workshop.run(['bridge', uri, '--listen', 'unix:b.sock', '--mode', '0666'])
    expect(rightsOf('b.sock')[0]).to.equal('666')
    await workshop.run(['bridge', uri, '--listen', 'unix:c.sock'])
    expect(rightsOf('c.sock')[0]).to.equal('600')
  })
})
