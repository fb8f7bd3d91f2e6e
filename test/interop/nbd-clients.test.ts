import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { KiB, MiB } from '../../src/base/size.ts'
import type { Device } from '../../src/device/device.ts'
import { extentHole, extentZero } from '../../src/device/extents.ts'
import { Rig } from '../nbd/rig.ts'
import { GrainedDriver } from '../support/grained.ts'
import { read, write } from '../support/io.ts'
import { mustRun, needPrograms, runProgram } from '../support/programs.ts'
import { SeededRandom } from '../support/seeded.ts'

const size = 64 * MiB
/** An image that fits no block size: with data, a long hole, and data again. */
const image = Buffer.concat([
  new SeededRandom(21).bytes(3 * MiB + 512),
  Buffer.alloc(9 * MiB),
  new SeededRandom(22).bytes(MiB + 512),
])

interface NbdInfo {
  readonly protocol: string
  readonly structured: boolean
  readonly exports: readonly Record<string, unknown>[]
}

interface MapEntry {
  readonly offset: number
  readonly length: number
  readonly type: number
}

for (const over of ['unix', 'tcp'] as const)
  describe(`programs as clients of the NBD server, over ${over}`, () => {
    let rig: Rig
    let disk: Device
    let uri: string
    let fixed: string
    beforeEach(async () => {
      rig = new Rig()
      await rig.listen()
      disk = await rig.addMemory('disk', size)
      await rig.addMemory('a fixed/one', size, true)
      uri = rig.uri('disk', over)
      fixed = rig.uri('a%20fixed/one', over)
    })
    afterEach(async () => {
      await rig.close()
      expect(rig.slab.bytesHeld).to.equal(0)
      expect(rig.admission.bytesInFlight).to.equal(0)
    })

    function at(name: string): string {
      return join(rig.folder, name)
    }

    it('nbdinfo tells what the export is', async function () {
      needPrograms(this, 'nbdinfo')
      const text = await mustRun('nbdinfo', [uri])
      expect(text).to.contain('protocol: newstyle-fixed without TLS, using structured packets')
      const info = JSON.parse(await mustRun('nbdinfo', ['--json', uri])) as NbdInfo
      expect(info.structured).to.equal(true)
      expect(info.exports[0]).to.include({
        'export-name': 'disk',
        'export-size': size,
        is_read_only: false,
        is_rotational: false,
        can_cache: true,
        can_df: true,
        can_fast_zero: true,
        can_flush: true,
        can_fua: true,
        can_multi_conn: true,
        can_trim: true,
        can_zero: true,
        block_size_minimum: 1,
        block_size_preferred: 4096,
        block_size_maximum: 32 * MiB,
      })
      expect(info.exports[0]!['contexts']).to.deep.equal(['base:allocation'])
      expect((await mustRun('nbdinfo', ['--size', fixed])).trim()).to.equal(String(size))
      expect((await runProgram('nbdinfo', ['--is', 'readonly', fixed])).code).to.equal(0)
      expect((await runProgram('nbdinfo', ['--can', 'trim', fixed])).code).to.equal(2)
    })

    it('nbdinfo maps an export whose driver knows of smaller blocks', async function () {
      needPrograms(this, 'nbdinfo')
      const blockSize = 4 * KiB
      const [data, zero] = [0, extentHole | extentZero]
      // Two and a half blocks of data, then one and a half that are zero.
      const flags = Array.from({ length: 32 }, (_, grain) => (grain < 20 ? data : zero))
      const driver = new GrainedDriver(MiB, flags, new SeededRandom(23), { blockSize })
      driver.runsMax = 7
      await rig.add('grained', driver)
      const args = ['--map', '--json', rig.uri('grained', over)]
      const map = JSON.parse(await mustRun('nbdinfo', args)) as MapEntry[]
      const ends = map.map(({ offset, length, type }) => [offset + length, type] as const)
      const rounds = Array.from({ length: MiB / blockSize / 4 }, (_, at) => 4 * at * blockSize)
      expect(ends).to.deep.equal(
        rounds.flatMap((at) => [
          [at + 3 * blockSize, 0],
          [at + 4 * blockSize, 3],
        ]),
      )
    })

    it('nbdinfo lists the exports', async function () {
      needPrograms(this, 'nbdinfo')
      const list = JSON.parse(await mustRun('nbdinfo', ['--list', '--json', uri])) as NbdInfo
      const names = list.exports.map((one) => one['export-name'])
      expect(names).to.deep.equal(['disk', 'a fixed/one'])
    })

    it('nbdinfo maps what is allocated', async function () {
      needPrograms(this, 'nbdinfo')
      await write(disk, 128 * KiB, Buffer.alloc(64 * KiB, 1))
      const map = JSON.parse(await mustRun('nbdinfo', ['--map', '--json', uri])) as object[]
      const hole = { type: 3, description: 'hole,zero' }
      expect(map).to.deep.equal([
        { offset: 0, length: 128 * KiB, ...hole },
        { offset: 128 * KiB, length: 64 * KiB, type: 0, description: 'data' },
        { offset: 192 * KiB, length: size - 192 * KiB, ...hole },
      ])
    })

    it('nbdcopy copies in and out', async function () {
      needPrograms(this, 'nbdcopy')
      writeFileSync(at('in'), image)
      await mustRun('nbdcopy', ['--flush', at('in'), uri])
      expect((await read(disk, 0, image.length)).equals(image)).to.equal(true)
      await mustRun('nbdcopy', [uri, at('out')])
      const out = readFileSync(at('out'))
      expect(out.length).to.equal(size)
      expect(out.subarray(0, image.length).equals(image)).to.equal(true)
      expect((await runProgram('nbdcopy', [at('in'), fixed])).code).to.not.equal(0)
    })

    it('nbdcopy copies synchronously with small requests too', async function () {
      needPrograms(this, 'nbdcopy')
      writeFileSync(at('in'), image)
      const few = ['--synchronous', '--request-size=8192', '--allocated']
      await mustRun('nbdcopy', [...few, at('in'), uri])
      await mustRun('nbdcopy', [...few, uri, at('out')])
      expect(readFileSync(at('out')).subarray(0, image.length).equals(image)).to.equal(true)
    })

    it('qemu-img converts in, compares, and converts out', async function () {
      needPrograms(this, 'qemu-img')
      writeFileSync(at('in'), Buffer.concat([image, Buffer.alloc(size - image.length)]))
      const raw = ['-f', 'raw', '-O', 'raw']
      await mustRun('qemu-img', ['convert', '-n', ...raw, at('in'), uri])
      expect((await read(disk, 0, image.length)).equals(image)).to.equal(true)
      const compare = ['compare', '-f', 'raw', '-F', 'raw', at('in'), uri]
      expect(await mustRun('qemu-img', compare)).to.contain('identical')
      await mustRun('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', uri, at('out.qcow2')])
      const other = ['compare', '-f', 'qcow2', '-F', 'raw', at('out.qcow2'), uri]
      expect(await mustRun('qemu-img', other)).to.contain('identical')
      await write(disk, 5 * MiB, Buffer.from([1]))
      expect((await runProgram('qemu-img', compare)).code).to.equal(1)
    })

    it('qemu-io writes, reads, zeroes, discards and is told of errors', async function () {
      needPrograms(this, 'qemu-io')
      const commands = [
        'write -P 7 0 2M',
        'write -f -P 8 512k 512',
        'read -P 7 0 512k',
        'read -P 8 512k 512',
        'write -z 4k 8k',
        'write -z -u 1M 64k',
        'read -P 0 4k 8k',
        'read -P 0 1M 64k',
        'discard 64k 64k',
        'aio_write -P 9 3M 1M',
        'aio_flush',
        'read -P 9 3M 1M',
        'flush',
      ]
      const args = ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri]
      const told = await mustRun('qemu-io', args)
      expect(told).to.not.contain('failed')
      const refused = await runProgram('qemu-io', ['-r', '-f', 'raw', '-c', 'write 0 4k', fixed])
      expect(refused.stdout + refused.stderr).to.match(/read-only|not permitted/i)
    })

    it('fio verifies what it wrote', async function () {
      needPrograms(this, 'fio')
      const job = (name: string, args: string[]): Promise<string> =>
        mustRun('fio', [
          `--name=${name}`,
          '--ioengine=nbd',
          `--uri=${uri}`,
          '--verify=crc32c',
          '--verify_fatal=1',
          ...args,
        ])
      await job('small', ['--rw=randwrite', '--bs=4k', '--iodepth=32', '--size=16m'])
      await job('mixed', ['--rw=randrw', '--bsrange=512-256k', '--iodepth=16', '--size=32m'])
      await job('large', ['--rw=write', '--bs=4m', '--iodepth=4', '--size=64m'])
    })
  })
