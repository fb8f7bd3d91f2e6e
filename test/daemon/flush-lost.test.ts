import { expect } from 'chai'
import nodeFs, { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { Slab } from '../../src/base/slab.ts'
import { LossReport } from '../../src/device/loss-report.ts'
import { Operation, Request } from '../../src/device/request.ts'
import { SocketNetwork } from '../../src/net/sockets.ts'
import { checkConfig } from '../../src/config/config.ts'
import { Target } from '../../src/daemon/target.ts'
import { submit, write } from '../support/io.ts'
import { reaches, remote } from '../wire/rig.ts'

describe('a flush that failed', () => {
  const folder = mkdtempSync(join(tmpdir(), 'dst-flush-'))
  after(() => {
    rmSync(folder, { recursive: true })
  })

  async function started(): Promise<Target> {
    const disk = { type: 'file', path: join(folder, 'disk.img'), size: '1M', create: true }
    const tree = {
      devices: { disk },
      exports: { disk: { device: 'disk' } },
      listeners: [{ protocol: 'dst', address: 'unix:dst' }],
      state: { directory: join(folder, 'state') },
    }
    const { config } = checkConfig(tree, folder)
    const parts = { clock: systemClock, random: systemRandom, slab: new Slab(), log: silentLog }
    const target = new Target(config, { ...parts, network: new SocketNetwork() })
    await target.start()
    return target
  }

  /** Carries `action` out while every flush fails. */
  async function failing<T>(action: () => Promise<T>): Promise<T> {
    const { fdatasync } = nodeFs
    const failure = Object.assign(new Error('EIO: on purpose'), { code: 'EIO' })
    nodeFs.fdatasync = ((_: number, done: nodeFs.NoParamCallback) => {
      setImmediate(done, failure)
    }) as typeof fdatasync
    try {
      return await action()
    } finally {
      nodeFs.fdatasync = fdatasync
    }
  }

  it('is told to all who had written, also when the target was restarted since', async () => {
    let target = await started()
    const device = remote({ kind: 'unix', path: join(folder, 'dst') }, 'disk')
    await device.open()
    const clients = [new LossReport(device), new LossReport(device)]
    await write(device, 0, Buffer.alloc(4096, 1))
    const first = await failing(() => flushOf(clients[0]!))
    expect(first).not.to.equal('none')
    await target.stop()
    target = await started()
    await reaches(device, ({ state }) => state.word === 'online')
    expect(await flushOf(clients[1]!)).to.equal('STALE')
    expect(await flushOf(clients[1]!)).to.equal('none')
    await device.close()
    await target.stop()

    async function flushOf(client: LossReport): Promise<string> {
      const { error } = await submit(device, Operation.flush, 0, 0)
      const flush = Request.take(Operation.flush, 0, 0, 0, { completed: () => undefined })
      flush.error = error
      client.tell(flush)
      return flush.error?.code ?? 'none'
    }
  })

  it('is not forgotten with those before, whose record is damaged', async () => {
    const kept = join(folder, 'state', 'target.lives.json')
    writeFileSync(kept, 'garbage')
    let target = await started()
    expect(target.warnings.join()).to.include('every start counts as a failed flush')
    const disk = target.tree.find('disk')!
    await write(disk, 0, Buffer.alloc(4096, 1))
    await failing(() => submit(disk, Operation.flush, 0, 0))
    expect(target.warnings.join()).to.include(`set aside as ${kept}.damaged`)
    expect(readFileSync(`${kept}.damaged`, 'utf8')).to.equal('garbage')
    const { bootId } = disk.facts!
    await target.stop()
    target = await started()
    expect(target.warnings).to.deep.equal([])
    expect(target.tree.find('disk')!.facts!.bootId).to.equal(bootId)
    await target.stop()
  })
})
