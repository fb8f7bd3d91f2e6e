import { crc32 } from 'node:zlib'
import { isDeepStrictEqual } from 'node:util'
import { Bitmap } from '../../src/base/bitmap.ts'
import { MiB } from '../../src/base/size.ts'
import { decodeMap, encodePage, pageBytes, pageOfBit } from '../../src/mirror/layout.ts'
import { endsOf, legStates, parseRecordText, type VolumeRecord } from '../../src/mirror/record.ts'
import {
  choose,
  decodeSlot,
  encodeSuperblock,
  headerBytes,
  highestMark,
  isNewer,
  markIn,
  showsMark,
  slotLength,
  withFormer,
  type Found,
} from '../../src/mirror/superblock.ts'
import type { Dice } from '../simulation/dice.ts'
import { mutateJson } from '../support/json.ts'
import { fieldsOf, mutatedBytes, type Part } from './mutate.ts'
import { must, type Surface, type Trial } from './trial.ts'

const fields = fieldsOf('little', [8, 4], [12, 4], [16, 8], [24, 4])

function hex(dice: Dice, digits: number): string {
  return dice.bytes(digits / 2).toString('hex')
}

function generation(dice: Dice) {
  return { counter: 1 + dice.below(100), id: hex(dice, 16) }
}

/** A record as a volume has it. */
function recordOf(dice: Dice): VolumeRecord {
  const legs = dice.pick([1, 2, 3, 3, 40])
  const members = Array.from({ length: legs }, (_, slot) => ({
    id: hex(dice, 32),
    name: `leg-${slot}`,
    state: dice.pick(legStates),
    reason: 'x'.repeat(dice.below(40)),
    since: 1_700_000_000_000 + dice.below(1e9),
    slot,
    left: dice.chance(0.5) ? null : generation(dice),
    size: 16 * MiB,
    ...(dice.chance(0.3) ? { movesTo: 32 * MiB } : {}),
    ...(dice.chance(0.5) ? { mark: dice.below(1000), markedIn: generation(dice) } : {}),
    bootId: hex(dice, 32),
    ...(dice.chance(0.5) ? { identity: hex(dice, 32), whole: true } : {}),
    label: dice.chance(0.8) ? null : 'before the upgrade',
    stamp: null,
  }))
  const entry = { at: 1, kind: 'membership', leg: 'leg-0', text: 'it left', generation: 3 } as const
  const groups = [['leg-0'], ['leg-1']]
  const differences = [{ from: 0, to: 4096, bytes: 512, groups }]
  return {
    volume: hex(dice, 32),
    generation: generation(dice),
    base: generation(dice),
    history: Array.from({ length: dice.below(4) }, () => generation(dice)),
    bootId: hex(dice, 32),
    extentSize: MiB,
    dataSize: 8 * MiB,
    blockSize: 512,
    slots: 64,
    members,
    zeroing: dice.chance(0.8) ? null : { from: 0, to: MiB },
    entries: Array.from({ length: dice.below(6) }, (_, number) => ({ number, ...entry })),
    ...(dice.chance(0.7)
      ? {}
      : { verified: { completedAt: 1, countedFrom: 1, position: 0, differences } }),
  }
}

/** Puts the right checksum on a slot, if its length makes sense. */
function repair(bytes: Buffer): void {
  if (bytes.length < headerBytes) return
  const body = bytes.subarray(headerBytes, headerBytes + bytes.readUInt32LE(12))
  bytes.writeUInt32LE(crc32(body, crc32(bytes.subarray(0, 24))), 24)
}

function slotOf(record: VolumeRecord, dice: Dice): Part {
  const self = dice.pick(record.members).id
  const bytes = encodeSuperblock({ serial: 1 + dice.below(1000), self, record })
  must(bytes !== null, 'a record fits into a slot')
  return { bytes, fields, repair }
}

/** The slot with some bytes changed, or something in its record. */
function changed(part: Part, dice: Dice): Buffer {
  if (dice.chance(0.15)) return part.bytes
  if (dice.chance(0.4)) return mutatedBytes(part, dice)
  const { bytes } = part
  const body = bytes.toString('utf8', headerBytes, headerBytes + bytes.readUInt32LE(12))
  const json: unknown = JSON.parse(body)
  for (let count = 1 + dice.below(3); count > 0; count--) mutateJson(json, dice)
  const text = Buffer.from(JSON.stringify(json))
  const result = Buffer.concat([bytes.subarray(0, headerBytes), text])
  result.writeUInt32LE(text.length, 12)
  repair(result)
  return result
}

/** What is read must be within its bounds, and be the same once it was written again. */
function checkFound(found: Found): void {
  if (found.kind === 'damaged') must(found.reason !== '', 'it is damaged without a reason')
  if (found.kind !== 'superblock') return
  const { superblock } = found
  const { record, serial, self } = superblock
  must(Number.isSafeInteger(serial) && serial >= 0, `a serial of ${serial}`)
  must(
    record.members.some(({ id }) => id === self),
    'a leg that is no member',
  )
  const text = parseRecordText(JSON.stringify(record))
  must(isDeepStrictEqual(text, record), 'a record is another one when it is read again')
  const again = encodeSuperblock(superblock)
  if (again === null) return
  const read = decodeSlot(again)
  must(read.kind === 'superblock', 'what was written cannot be read')
  must(read.superblock.serial === serial, 'it has another serial when it is read again')
}

function superblock(trial: Trial): void {
  const { dice } = trial
  const record = recordOf(dice)
  const parts = [slotOf(record, dice), slotOf(dice.chance(0.7) ? record : recordOf(dice), dice)]
  const slots = parts.map((part) => changed(part, dice))
  const found = slots.map((bytes) => {
    trial.bytes += bytes.length
    const start = Buffer.alloc(pageBytes)
    bytes.copy(start)
    trial.step(() => slotLength(start))
    return trial.step(() => decodeSlot(bytes))
  })
  found.forEach(checkFound)
  const [first, second] = found as [Found, Found]
  const chosen = trial.step(() => choose(first, second))
  checkFound(chosen)
  trial.step(() => {
    showsMark(chosen, dice.below(1000))
    withFormer(chosen, found)
    isNewer(first, second, record.volume)
    if (chosen.kind !== 'superblock') return
    const { superblock } = chosen
    const { members } = superblock.record
    const marks = members.map(({ id }) => markIn(superblock.record, id))
    must(Number.isSafeInteger(highestMark(marks, superblock)), 'the highest mark is no number')
    for (const member of members)
      must(endsOf(member).every(Number.isSafeInteger), 'the end of a leg is no number')
  })
}

/** A damaged sector of a map counts as all ones: no bit that was set is ever lost. */
function map(trial: Trial): void {
  const { dice } = trial
  const bits = new Bitmap(dice.pick([100, 4000, 40_000]))
  for (let left = dice.below(20); left > 0; left--) bits.set(dice.below(bits.length))
  const pages = pageOfBit(bits.length - 1)
  const bytes = Buffer.alloc((pages + 1) * pageBytes)
  for (let page = 0; page <= pages; page++)
    encodePage(bits, 1, page, bytes.subarray(page * pageBytes, (page + 1) * pageBytes))
  const hostile = mutatedBytes({ bytes }, dice)
  trial.bytes += hostile.length
  const read = new Bitmap(bits.length)
  trial.step(() => decodeMap(hostile, 1, read))
  for (let at = 0; at < bits.length; at++)
    must(read.has(at) || !bits.has(at), `bit ${at} of a map is lost`)
}

/** What is on the legs of a mirror. */
export const superblocks: Surface = {
  name: 'superblocks',
  weight: 1,
  run(trial: Trial): Promise<void> {
    if (trial.dice.chance(0.9)) superblock(trial)
    else map(trial)
    return Promise.resolve()
  },
}
