import { expect } from 'chai'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { MiB } from '../../src/base/size.ts'
import { freePorts } from '../support/ports.ts'
import { Workshop } from '../support/process.ts'
import { mustRun, needPrograms } from '../support/programs.ts'
import { hostAddress, machinePrograms, runInMachine, type Verdict } from './machine.ts'

/** Ports of the host's address as the guest sees them. */
const dstPort = 4470
const nbdPort = 10809
const dstUri = `dst://${hostAddress}/volume`
const nbdUri = `nbd://${hostAddress}`

/** `refused WORDS COMMAND …`: the command says so, in one line, and exits 1. */
const helpers = `
set -x
refused() {
  words=$1; shift
  said=$(mktemp)
  code=0
  "$@" > $said 2>&1 || code=$?
  cat $said
  test $code = 1
  test "$(wc -l < $said)" = 1
  grep -q "$words" $said
}
nothing_left() {
  test -z "$(ls -A /run/dst)"
  ! pgrep -f 'main.js bridge'
}
`

const disksComeAndGo = `
dst attach ${dstUri} /dev/nbd0 & first=$!
dst attach ${nbdUri}/image /dev/nbd1 --read-only & second=$!
dst attach ${nbdUri}/odd /dev/nbd3 > /tmp/odd & third=$!
dst attach ${dstUri} /dev/nbd4 & fourth=$!
wait $first
wait $second
wait $third
grep 'without its last 65 bytes' /tmp/odd
wait $fourth
kill -9 $(tr -dc 0-9 < /run/dst/nbd4.json)

refused 'its bridge has died; dst detach /dev/nbd4 --force' dst detach /dev/nbd4 & dead=$!
refused 'nbd0 is in use' dst attach ${nbdUri}/image /dev/nbd0 & in_use=$!
refused 'no export "nothing"' dst attach dst://${hostAddress}/nothing /dev/nbd2 & absent=$!
mkfs.ext4 -F -q /dev/nbd0
mount /dev/nbd0 /mnt
dd if=/dev/urandom of=/mnt/dropped bs=64k count=128
dd if=/dev/urandom of=/mnt/kept bs=64k count=128
sync
sum=$(sha256sum < /mnt/kept)
rm /mnt/dropped
# What was removed is free once that is committed.
sync
echo 'host: measure'
fstrim -v /mnt
echo 'host: measure'
wait $in_use
wait $absent
wait $dead
dst detach /dev/nbd4 --force & dead=$!
dst detach /dev/nbd3 & odd=$!

mkdir /image
mount -o ro /dev/nbd1 /image
test "$(cat /image/word)" = hello
umount /image
! dd if=/dev/zero of=/dev/nbd1 bs=4k count=1 conv=fsync

refused 'unmount it first' dst detach /dev/nbd0
wait $dead
wait $odd
echo more > /mnt/more
umount /mnt
dst detach /dev/nbd0 & first=$!
dst detach /dev/nbd1 & second=$!
wait $first
wait $second
nothing_left

refused 'nbd1 is not attached' dst detach /dev/nbd1 & detached=$!
dst attach ${nbdUri}/volume /dev/nbd0
wait $detached
fsck.ext4 -n -f /dev/nbd0
mount /dev/nbd0 /mnt
test "$(sha256sum < /mnt/kept)" = "$sum"
test "$(cat /mnt/more)" = more
umount /mnt
dst detach /dev/nbd0
nothing_left
`

describe('dst attach and detach with a kernel behind them', function () {
  // Node starts in half a minute where a busy machine emulates another.
  this.timeout(900_000)

  let workshop: Workshop
  let forwards: Map<number, number>
  before(function () {
    needPrograms(this, ...machinePrograms, 'nbd-client', 'mkfs.ext4', 'flock', 'fallocate')
  })
  beforeEach(async () => {
    workshop = new Workshop()
    const [dst = 0, nbd = 0] = await freePorts(2)
    forwards = new Map([
      [dstPort, dst],
      [nbdPort, nbd],
    ])
  })
  afterEach(async function () {
    if (this.currentTest?.isFailed() === true) console.log(workshop.logs())
    await workshop.close()
  })

  const serve = (devices: Readonly<Record<string, object>>) =>
    workshop.serve('target', {
      listeners: [
        { protocol: 'dst', address: `127.0.0.1:${forwards.get(dstPort)}` },
        { protocol: 'nbd', address: `127.0.0.1:${forwards.get(nbdPort)}` },
      ],
      devices,
      exports: Object.fromEntries(Object.keys(devices).map((name) => [name, { device: name }])),
    })

  async function expectPassed(script: string, onLine?: (line: string) => void): Promise<Verdict> {
    const boot = { script: helpers + script, forwards, timeout: 840_000, dst: true }
    const verdict = await runInMachine(onLine === undefined ? boot : { ...boot, onLine })
    expect(verdict.passed, verdict.console).to.equal(true)
    return verdict
  }

  /** An image whose file system has blocks smaller than those of many a disk. */
  async function makeImage(path: string): Promise<void> {
    const content = join(workshop.folder, 'content')
    mkdirSync(content)
    writeFileSync(join(content, 'word'), 'hello\n')
    await mustRun('mkfs.ext4', ['-q', '-b', '1024', '-d', content, path, '8M'])
  }

  it('makes disks of exports, by a bridge and without, and undoes it', async () => {
    await makeImage(join(workshop.folder, 'image'))
    const leg = (path: string) => ({ type: 'file', path, size: '96M', create: true })
    await serve({
      volume: { type: 'mirror', legs: { left: leg('left'), right: leg('right') } },
      image: { type: 'file', path: 'image' },
      odd: { type: 'memory', size: 1000001 },
    })
    const allocated = (): number[] =>
      ['left', 'right'].map((name) => statSync(join(workshop.folder, name)).blocks * 512)
    const measured: number[][] = []
    await expectPassed(disksComeAndGo, (line) => {
      if (line === 'host: measure') measured.push(allocated())
    })
    const [before = [], after = []] = measured
    for (const [leg, bytes] of before.entries())
      expect(bytes - after[leg]!, 'given back to the disk below').to.be.at.least(7 * MiB)
  })

  it('--hold lets a write wait for a target that is killed and comes back', async () => {
    const target = await serve({
      volume: { type: 'file', path: 'volume', size: '32M', create: true },
    })
    let restarted: Promise<void> | null = null
    let killed: Promise<unknown> | null = null
    const script = `
dst attach ${dstUri} /dev/nbd0 --hold 10m
dd if=/dev/urandom of=/tmp/data bs=1M count=24
dd if=/tmp/data of=/dev/nbd0 bs=64k count=64 conv=fsync
# The kernel looks at what waits after a second, not thirty, and says so.
echo 1000 > /sys/block/nbd0/queue/io_timeout
dmesg -n 7
echo 'host: kill the target'
dd if=/tmp/data of=/dev/nbd0 bs=64k oflag=direct
dd if=/dev/nbd0 of=/tmp/back bs=1M count=24 iflag=direct
cmp /tmp/data /tmp/back
sha256sum < /tmp/data
dst detach /dev/nbd0
nothing_left
`
    const { console: said } = await expectPassed(script, (line) => {
      if (line === 'host: kill the target') killed ??= target.stop('SIGKILL')
      if (line.includes('Possible stuck request') && killed !== null)
        restarted ??= killed.then(() => target.start())
    })
    expect(restarted, said).to.not.equal(null)
    await restarted!
    await target.stop()
    const written = readFileSync(join(workshop.folder, 'volume')).subarray(0, 24 * MiB)
    expect(said).to.include(createHash('sha256').update(written).digest('hex'))
  })
})
