import { expect } from 'chai'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import net from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePorts } from '../support/ports.ts'
import { Workshop } from '../support/process.ts'

/** Processor time that a process has used so far, in ticks of ten milliseconds. */
function ticksOf(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return Number(fields[11]) + Number(fields[12])
}

describe('a target with nothing to do', function () {
  let workshop: Workshop
  before(function () {
    if (existsSync('/proc/self/stat')) return
    console.log('      skipped: there is no /proc here')
    this.skip()
  })
  beforeEach(() => (workshop = new Workshop()))
  afterEach(async function () {
    if (this.currentTest?.isFailed() === true) console.log(workshop.logs())
    await workshop.close()
  })

  it('takes no processor time, whoever is connected to it', async () => {
    const [port = 0] = await freePorts(1)
    const target = await workshop.serve('idle', {
      listeners: [{ protocol: 'nbd', address: `127.0.0.1:${port}` }],
      devices: { disk: { type: 'memory', size: '1G' } },
      exports: { disk: { device: 'disk' } },
      limits: { handshakeTimeout: '1h' },
    })
    const sockets = Array.from({ length: 500 }, () => net.connect({ port, host: '127.0.0.1' }))
    workshop.later(() => sockets.forEach((socket) => socket.destroy()))
    // The server speaks first: whoever has heard it is being served.
    await Promise.all(sockets.map((socket) => once(socket, 'data')))
    await sleep(1000)
    const before = ticksOf(target.pid!)
    await sleep(3000)
    expect(ticksOf(target.pid!) - before).to.be.at.most(3)
  })
})
