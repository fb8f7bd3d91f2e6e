import { expect } from 'chai'
import { systemClock } from '../../src/base/clock.ts'
import { MiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { LinearDriver } from '../../src/devices/linear.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { Operation } from '../../src/device/request.ts'
import { Rig } from '../nbd/rig.ts'
import { needPrograms } from '../support/programs.ts'
import { hostAddress, machinePrograms, runInMachine } from './machine.ts'
import { SeededRandom } from '../support/seeded.ts'

const attach = `nbd-client ${hostAddress} 10809 -N volume`
const detach = 'nbd-client -d'

/**
 * A file system is made, written to and trimmed over one connection, then found whole over
 * `connections` of them.
 */
function roundTrip(make: string, check: string, connections: number): string {
  return `
set -x
${attach} /dev/nbd0
${make} /dev/nbd0
mount /dev/nbd0 /mnt
dd if=/dev/urandom of=/mnt/dropped bs=64k count=256
dd if=/dev/urandom of=/mnt/kept bs=64k count=256
before=$(sha256sum < /mnt/kept)
rm /mnt/dropped
fstrim -v /mnt
umount /mnt
${detach} /dev/nbd0
${attach} -C ${connections} /dev/nbd1
${check} /dev/nbd1
mount /dev/nbd1 /mnt
test "$(sha256sum < /mnt/kept)" = "$before"
dd if=/dev/urandom of=/mnt/more bs=64k count=64 conv=fsync
umount /mnt
${detach} /dev/nbd1
`
}

describe('the Linux kernel as a client', function () {
  this.timeout(900_000)

  let rig: Rig
  let volume: Device
  before(function () {
    needPrograms(this, ...machinePrograms, 'nbd-client', 'mkfs.ext4', 'mkfs.xfs')
  })
  beforeEach(async () => {
    rig = new Rig()
    await rig.listen()
    const part = (at: number): Device => {
      const memory = new MemoryDriver(192 * MiB, new SeededRandom(at))
      return new Device(`volume/${at}`, memory, systemClock)
    }
    volume = await rig.add('volume', new LinearDriver([part(0), part(1)]))
  })
  afterEach(() => rig.close())

  async function expectPassed(script: string): Promise<void> {
    const { tcp } = rig
    const port = tcp.kind === 'tcp' ? tcp.port : 0
    const forwards = new Map([[10809, port]])
    const verdict = await runInMachine({ script, forwards, timeout: 840_000 })
    expect(verdict.passed, verdict.console).to.equal(true)
  }

  const fileSystems = [
    ['ext4', 'mkfs.ext4 -F -q', 'fsck.ext4 -n -f'],
    ['xfs', 'mkfs.xfs -f -q', 'xfs_repair -n'],
  ] as const
  for (const [name, make, check] of fileSystems)
    it(`makes ${name}, mounts, writes, trims, comes back and finds it whole`, async () => {
      await expectPassed(roundTrip(make, check, 3))
      const { operations, errors } = volume.counters
      expect(operations[Operation.trim]).to.be.greaterThan(0)
      expect(operations[Operation.flush]).to.be.greaterThan(0)
      expect(errors).to.deep.equal([0, 0, 0, 0, 0, 0])
    })

  it('reads and writes the raw device in blocks of any size', () =>
    expectPassed(`
set -x
${attach} /dev/nbd0
test "$(cat /sys/block/nbd0/size)" = ${(384 * MiB) / 512}
dd if=/dev/urandom of=/tmp/data bs=1M count=8
dd if=/tmp/data of=/dev/nbd0 bs=512 seek=390000 count=1024 oflag=direct
dd if=/tmp/data of=/dev/nbd0 bs=4k skip=128 seek=48878 count=1920 conv=fsync
dd if=/dev/nbd0 of=/tmp/back bs=512 skip=390000 count=1024 iflag=direct
cmp -n 524288 /tmp/data /tmp/back
blkdiscard -o 0 -l 1048576 /dev/nbd0
${detach} /dev/nbd0
`))
})
