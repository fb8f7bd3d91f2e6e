import { StorageError } from '../../src/base/errors.ts'
import { systemClock } from '../../src/base/clock.ts'
import { KiB, MiB } from '../../src/base/size.ts'
import { Device } from '../../src/device/device.ts'
import { Deriver } from '../../src/devices/crypt/deriver.ts'
import { formatDevice } from '../../src/devices/crypt/format.ts'
import { isFault, type Fault, type Header } from '../../src/devices/crypt/header.ts'
import { luks1Bytes, luks1Problems, parseLuks1 } from '../../src/devices/crypt/luks1.ts'
import { parseCopy } from '../../src/devices/crypt/luks2.ts'
import { Medium } from '../../src/devices/crypt/medium.ts'
import { loadHeader, saveLuks2 } from '../../src/devices/crypt/store.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { checkBounds, repair } from '../devices/crypt/bounds.ts'
import { quick } from '../devices/crypt/support.ts'
import { Dice } from '../simulation/dice.ts'
import { read, write } from '../support/io.ts'
import { mutateJson } from '../support/json.ts'
import { fieldsOf, mutatedBytes } from './mutate.ts'
import { must, type Surface, type Trial } from './trial.ts'

const copyBytes = 16 * KiB
const deviceBytes = 18 * MiB
const fields1 = fieldsOf(
  'big',
  [104, 4],
  [108, 4],
  [164, 4],
  [208, 4],
  [212, 4],
  [248, 4],
  [252, 4],
)
const fields2 = fieldsOf('big', [6, 2], [8, 8], [16, 8], [256, 8])

async function formatted(format: 'luks1' | 'luks2', bytes: number): Promise<Buffer> {
  const dice = new Dice(1)
  const device = new Device('whole', new MemoryDriver(deviceBytes, dice), systemClock)
  const deriver = new Deriver(systemClock)
  await device.open()
  const maker = { medium: new Medium(device), deriver, random: dice }
  const passphrase = Buffer.from('a passphrase')
  await formatDevice(maker, { format, sectorBytes: 512, kdf: quick, passphrase })
  const header = await read(device, 0, bytes)
  deriver.close()
  await device.close()
  return header
}

function check(found: Header | Fault): void {
  if (isFault(found)) must(found.reason !== '', 'a header is refused without a reason')
  else checkBounds(found)
}

/** A copy of a header of version 2 with something in it changed. */
function changed(right: Buffer, dice: Dice): Buffer {
  if (dice.chance(0.4)) {
    const span = dice.pick([512, copyBytes])
    const part = { bytes: right.subarray(0, span), fields: fields2 }
    const bytes = Buffer.from(right)
    mutatedBytes(part, dice).copy(bytes, 0, 0, copyBytes)
    return bytes
  }
  const text = right.toString('utf8', 4096, right.indexOf(0, 4096))
  const json: unknown = JSON.parse(text)
  for (let count = 1 + dice.below(4); count > 0; count--) mutateJson(json, dice)
  const bytes = Buffer.from(right)
  bytes.fill(0, 4096)
  bytes.write(JSON.stringify(json).slice(0, copyBytes - 4096), 4096)
  return bytes
}

function first(trial: Trial, right: Buffer): void {
  const bytes = mutatedBytes({ bytes: right, fields: fields1 }, trial.dice)
  trial.bytes += bytes.length
  const found = trial.step(() => parseLuks1(bytes))
  check(found)
  if (!isFault(found)) trial.step(() => luks1Problems(bytes, found))
}

function second(trial: Trial, right: Buffer): void {
  const bytes = changed(right, trial.dice)
  if (trial.dice.chance(0.9)) repair(bytes)
  trial.bytes += bytes.length
  const found = trial.step(() => parseCopy(bytes, 0))
  check(isFault(found) ? found : found.header)
}

/** A device with two copies that may both be hostile, and that may end anywhere. */
async function both(trial: Trial, right: Buffer): Promise<void> {
  const { dice } = trial
  const bytes = Buffer.from(right)
  for (const from of [0, copyBytes]) {
    if (dice.chance(0.3)) continue
    const copy = bytes.subarray(from, from + copyBytes)
    changed(copy, dice).copy(copy)
    if (dice.chance(0.9)) repair(copy)
  }
  const size = dice.chance(0.8) ? deviceBytes : dice.below(3 * copyBytes) + 1
  const device = new Device('hostile', new MemoryDriver(size, dice.fork()), systemClock)
  await device.open()
  await write(device, 0, bytes.subarray(0, size))
  trial.bytes += bytes.length
  const medium = new Medium(device)
  const found = await loadHeader(medium)
  check(isFault(found) ? found : found.header)
  if (!isFault(found) && found.format === 'luks2') {
    const saved = await saveLuks2(medium, found, found.json).catch((error: unknown) => error)
    if (saved instanceof Error) must(saved instanceof StorageError, `saving threw ${saved.message}`)
    else {
      const again = await loadHeader(medium)
      must(!isFault(again) && again.problems.length === 0, 'a header that was saved is not whole')
    }
  }
  await device.close()
}

let made: Promise<readonly [Buffer, Buffer]> | null = null

/** Headers of encrypted devices. */
export const luks: Surface = {
  name: 'luks',
  weight: 1,
  async run(trial: Trial): Promise<void> {
    made ??= Promise.all([formatted('luks1', luks1Bytes), formatted('luks2', 2 * copyBytes)])
    const [one, two] = await made
    const what = trial.dice.below(8)
    if (what < 3) first(trial, one)
    else if (what < 7) second(trial, two.subarray(0, copyBytes))
    else await both(trial, two)
  },
}
