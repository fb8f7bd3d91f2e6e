import { expect } from 'chai'
import { dst, Workshop } from '../support/process.ts'

describe('two targets with one state directory', function () {
  let workshop: Workshop
  beforeEach(() => (workshop = new Workshop()))
  afterEach(() => workshop.close())

  const state = { directory: 'state' }
  const config = (name: string, protocol: 'dst' | 'nbd', device: object) => ({
    listeners: [{ protocol, address: `unix:${name}.sock` }],
    devices: { [name]: device },
    exports: { [name]: { device: name } },
    state,
  })
  const memory = { type: 'memory', size: '4M' }
  const mirror = { type: 'mirror', legs: { a: memory, b: memory } }

  it('are one: the second says whose it is, and ends with 2', async () => {
    const first = await workshop.serve('first', config('first', 'dst', memory))
    for (const [name, protocol, device] of [
      ['second', 'dst', memory],
      ['third', 'nbd', mirror],
    ] as const) {
      workshop.write(name, config(name, protocol, device))
      const { code, stderr } = await dst(['serve', `${name}.json`], workshop.folder)
      expect(code).to.equal(2)
      expect(stderr).to.include(`process ${first.pid} (dst serve first.json)`)
      expect((await dst(['check', `${name}.json`], workshop.folder)).code).to.equal(0)
    }
    await first.stop('SIGKILL')
    await workshop.run(['serve', 'second.json'])
  })

  it('are two where the second remembers nothing', async () => {
    await workshop.serve('first', config('first', 'dst', memory))
    await workshop.serve('second', config('second', 'nbd', memory))
  })
})
