import { expect } from 'chai'
import { once } from 'node:events'
import net from 'node:net'
import { join } from 'node:path'
import { MiB } from '../../src/base/size.ts'
import type { Status } from '../../src/manage/status.types.ts'
import { Command } from '../../src/nbd/codec.ts'
import { Talker } from '../nbd/talker.ts'
import { dst, Workshop } from '../support/process.ts'

/** Fewer than the clients that will come. */
const openFiles = 72

describe('a target whose file descriptors clients use up', function () {
  it('serves whom it has, starts programs, and says whom it cut off', async () => {
    const workshop = new Workshop()
    try {
      const target = await workshop.serve(
        'target',
        {
          listeners: [{ protocol: 'nbd', address: 'unix:nbd.sock' }],
          management: { address: 'unix:dst.sock' },
          devices: { disk: { type: 'file', path: 'disk.img', size: '8M', create: true } },
          exports: { disk: { device: 'disk' } },
        },
        { openFiles },
      )
      const path = join(workshop.folder, 'nbd.sock')
      const where = ['--management', 'unix:dst.sock']
      const client = await Talker.using({ kind: 'unix', path }, 'disk', false)
      const strangers: net.Socket[] = []
      for (let at = 0; at < openFiles; at++) {
        const socket = net.connect(path).on('error', () => undefined)
        strangers.push(socket)
        await Promise.race([once(socket, 'data'), once(socket, 'close')])
      }
      const operators: net.Socket[] = []
      for (let at = 0; at < openFiles; at++) {
        const socket = net.connect(join(workshop.folder, 'dst.sock')).on('error', () => undefined)
        operators.push(socket)
        await Promise.race([once(socket, 'connect'), once(socket, 'close')])
      }
      // A program does this.
      expect((await client.ask(Command.trim, 0, MiB)).error).to.equal(0)
      const { code, stdout } = await dst(['status', '--json', ...where], workshop.folder)
      expect(code).to.equal(0)
      const { refused } = JSON.parse(stdout) as Status
      expect(refused!.descriptors).to.be.above(0)
      expect(target.stderr).to.match(/no file descriptors left for clients/)
      const { stdout: text } = await dst(['status', ...where], workshop.folder)
      expect(text).to.match(/^refused \d+ connections: too few open files/m)
      for (const socket of [...strangers, ...operators]) socket.destroy()
      client.close()
      // Those who left make room.
      for (let answered = false; !answered;) {
        const socket = net.connect(path).on('error', () => undefined)
        answered = await Promise.race([
          once(socket, 'data').then(() => true),
          once(socket, 'close').then(() => false),
        ])
        socket.destroy()
      }
    } finally {
      await workshop.close()
    }
  })
})
