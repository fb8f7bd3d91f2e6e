import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { StorageError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { checkConfig } from '../../src/config/config.ts'
import { Target } from '../../src/daemon/target.ts'
import { TargetManager } from '../../src/manage/commands.ts'
import type { Dice } from '../simulation/dice.ts'
import { mutateJson } from '../support/json.ts'
import { must, type Surface, type Trial } from './trial.ts'
import { World } from './world.ts'

/** The commands, each with the options that it takes. */
const commands: Readonly<Record<string, object>> = {
  'volume.start': { force: true, leg: 'left' },
  'volume.history': {},
  'volume.verify': { repairFrom: 'left', repair: false, bytesPerSecond: 1_000_000 },
  'volume.stopVerify': {},
  'volume.grow': { size: 8_388_608 },
  'leg.grow': { size: 8_388_608 },
  'leg.detach': { as: 'before the upgrade' },
  'leg.attach': { discard: true, replace: true },
  'leg.add': { device: { type: 'memory', size: '8M' }, readLast: true, discard: true },
  'leg.remove': {},
  'leg.invalidate': {},
  'leg.trust': {},
  'leg.export': {},
  'claim.reset': {},
  'claims.reset': {},
}

const words = ['healthy', 'degraded', 'failed', 'syncing', 'waiting', 'suspended']

function command(dice: Dice) {
  const name = dice.chance(0.95)
    ? dice.pick(Object.keys(commands))
    : dice.pick(['__proto__', 'leg.x'])
  const given: Record<string, unknown> = structuredClone({ ...commands[name] })
  if (dice.chance(0.6)) for (let left = 1 + dice.below(2); left > 0; left--) mutateJson(given, dice)
  else if (dice.chance(0.5))
    for (const key of Object.keys(given)) Reflect.deleteProperty(given, key)
  const volume = dice.pick(['home', 'home', 'home', 'home', 'left', '', '__proto__'])
  const leg = dice.pick(['left', 'right', 'third', 'constructor', '', 'x'.repeat(5000)])
  const names = name.startsWith('leg') ? { volume, leg } : { volume, export: 'home' }
  return { name, names, given }
}

/** Commands of operators to a target with a mirror, which lives on. */
export const management: Surface = {
  name: 'commands',
  weight: 0.5,
  async run(trial: Trial): Promise<void> {
    const { dice } = trial
    const world = new World(trial)
    const legs = { left: { type: 'memory', size: '6M' }, right: { type: 'memory', size: '6M' } }
    const devices = { home: { type: 'mirror', legs } }
    const folder = mkdtempSync(join(tmpdir(), 'dst-fuzz-commands-'))
    const { config } = checkConfig({ devices, exports: { home: { device: 'home' } } }, folder)
    const { slab, watch: clock, tested } = world
    const target = new Target(config, {
      clock,
      random: dice.fork(),
      network: tested.network,
      slab,
      log: silentLog,
    })
    // Not all of a start: it locks the folder, by another program.
    const opened = Promise.all(target.tree.roots.map((device) => device.open()))
    await world.settleOutside(opened, 600_000, 'the volume starts')
    const manager = new TargetManager(target, 'fuzz')
    for (let left = 1 + dice.below(6); left > 0; left--) {
      const { name, names, given } = command(dice)
      trial.bytes += JSON.stringify(given).length + name.length
      const done = trial.step(() => manager.run(name, names, given))
      const outcome = done.catch((error: unknown) => error)
      const error = await world.settleOutside(outcome, 3_600_000, `${name} has an end`)
      if (error instanceof Error)
        must(error instanceof StorageError, `${name} threw ${error.stack ?? error.message}`)
      const status = await world.settleOutside(
        Promise.resolve(manager.status()),
        60_000,
        'status ends',
      )
      must(words.includes((status as { state: string }).state), 'the status makes no sense')
    }
    await world.settleOutside(target.stop(), 600_000, 'the target stops')
    await world.quiet()
    world.checkMemory(64 * 2 ** 20)
    rmSync(folder, { recursive: true })
  },
}
