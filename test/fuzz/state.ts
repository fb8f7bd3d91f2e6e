import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { systemClock } from '../../src/base/clock.ts'
import { StorageError } from '../../src/base/errors.ts'
import type { StateStore } from '../../src/base/store.ts'
import { FileStore } from '../../src/daemon/state.ts'
import { Device } from '../../src/device/device.ts'
import { Lives } from '../../src/device/lives.ts'
import { MemoryDriver } from '../../src/devices/memory.ts'
import { Claims } from '../../src/export/claims.ts'
import { parseRecordText } from '../../src/mirror/record.ts'
import type { Dice } from '../simulation/dice.ts'
import { mutateJson } from '../support/json.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { mutatedBytes } from './mutate.ts'
import { must, type Surface, type Trial } from './trial.ts'

/** A text of JSON with something in it changed: its values, or its bytes. */
export function mutatedText(right: unknown, dice: Dice): string {
  if (dice.chance(0.5)) {
    const bytes = Buffer.from(JSON.stringify(right))
    return mutatedBytes({ bytes }, dice).toString('utf8')
  }
  const json = structuredClone(right)
  for (let left = 1 + dice.below(3); left > 0; left--) mutateJson(json, dice)
  return JSON.stringify(json)
}

/** A store whose every file says the same. */
async function storeOf(text: string, ...keys: readonly string[]): Promise<MemoryStore> {
  const store = new MemoryStore()
  for (const key of keys) await store.save(key, text)
  return store
}

async function memory(dice: Dice): Promise<Device> {
  const device = new Device('disk', new MemoryDriver(4096, dice), systemClock)
  await device.open()
  return device
}

/** Whether the claims can be read. */
function isReady(claims: Claims): Promise<boolean> {
  return new Promise((resolve) => {
    claims.ready((problem) => {
      must(problem === null || problem.message !== '', 'claims are refused without a reason')
      resolve(problem === null)
    })
  })
}

async function claims(trial: Trial): Promise<void> {
  const { dice } = trial
  const device = await memory(dice)
  const { identity } = device.facts!
  const right = { [identity]: dice.below(1000) - 500, [dice.bytes(16).toString('hex')]: 7 }
  const text = mutatedText(right, dice)
  trial.bytes += Buffer.byteLength(text)
  const store = await storeOf(text, 'target.claims')
  const read = new Claims(store)
  if (!(await isReady(read))) {
    must((await read.resetAll()) === null, 'a record that cannot be read is counted')
    must(await isReady(read), 'claims that were reset cannot be read')
  }
  const last = read.last(device)
  must(Number.isSafeInteger(last) && last >= 0, `a claim of ${last}`)
  const next = Math.min(last + 1, Number.MAX_SAFE_INTEGER)
  await read.set(device, next)
  const again = new Claims(store)
  must((await isReady(again)) && again.of(device) === next, 'a claim is not there any more')
  await device.close()
}

async function lives(trial: Trial): Promise<void> {
  const { dice } = trial
  const identity = dice.bytes(16).toString('hex')
  const [from, to] = [dice.bytes(16).toString('hex'), dice.bytes(16).toString('hex')]
  const text = mutatedText(
    { [identity]: { from, to, at: dice.below(1e9) }, '': { from, to } },
    dice,
  )
  trial.bytes += Buffer.byteLength(text)
  const store = await storeOf(text, 'target.lives')
  const spare = dice.chance(0.5)
    ? await storeOf(mutatedText({ [identity]: { from, to } }, dice), 'target.lives')
    : null
  const read = new Lives(store, spare)
  await read.load(systemClock)
  must(read.known === (read.warning === ''), 'what is unknown is not told')
  const known = read.of(identity, from)
  must(known === null || typeof known === 'string', 'a life is no text')
  const next = dice.bytes(16).toString('hex')
  await read.keep(identity, { from, to: next }, systemClock)
  const again = new Lives(store, spare)
  await again.load(systemClock)
  must(again.known && again.of(identity, from) === next, 'a life is not there any more')
}

function record(trial: Trial): void {
  const right = { volume: '0'.repeat(32), members: [{ id: '1', name: 'left' }], history: [] }
  const text = mutatedText(right, trial.dice)
  trial.bytes += Buffer.byteLength(text)
  const read = trial.step(() => parseRecordText(text))
  must(read === null, 'half a record is taken for one')
}

let folder = ''

/** A file that is not as it was saved is not taken for one that is. */
async function file(trial: Trial): Promise<void> {
  const { dice } = trial
  if (folder === '') folder = mkdtempSync(join(tmpdir(), 'dst-fuzz-state-'))
  const store: StateStore = new FileStore(folder)
  const text = JSON.stringify({ some: dice.bytes(dice.below(60)).toString('hex') })
  const right = Buffer.from(`${text}\n#crc32 ${crcOf(text)}\n`)
  const bytes = mutatedBytes({ bytes: right }, dice)
  trial.bytes += bytes.length
  writeFileSync(join(folder, 'one.json'), bytes)
  const read = await store.load('one').catch((error: unknown) => error)
  if (read instanceof Error) {
    must(read instanceof StorageError && read.code === 'IO', `reading threw ${read.message}`)
    return
  }
  // Older versions wrote no seal: what has none is taken as it is.
  const isSealed = /\n#crc32 [0-9a-f]{8}\n$/.test(bytes.toString())
  must(!isSealed || read === text, 'a file that was changed is taken for whole')
  await store.save('one', text)
  must((await store.load('one')) === text, 'what was saved is not there')
}

function crcOf(text: string): string {
  return crc32(text).toString(16).padStart(8, '0')
}

/** Files of the state directory. */
export const state: Surface = {
  name: 'state',
  weight: 0.5,
  async run(trial: Trial): Promise<void> {
    const what = trial.dice.below(8)
    if (what < 3) await claims(trial)
    else if (what < 6) await lives(trial)
    else if (what === 6) record(trial)
    else await file(trial)
  },
  close(): Promise<void> {
    if (folder !== '') rmSync(folder, { recursive: true })
    folder = ''
    return Promise.resolve()
  },
}
