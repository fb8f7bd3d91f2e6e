import { restartsUnheeded, serialsUnheeded } from './mutant-edits.ts'
import type { Mutant } from './mutants.ts'

/**
 * Defects that a third reading found, planted again into the program that answers them: of failed
 * flushes and lost caches, of heads that were replaced, of legs that are what they once were.
 */
export const mutantsOfLosses: readonly Mutant[] = [
  {
    name: 'lost-before-acknowledged',
    breaks:
      '8: what the last leg lost is acknowledged, having been told, and nobody looks at the leg',
    file: 'mirror/rules/verdicts.js',
    find: "return writing || standing === 'last-so-far' ? 'suspend' : 'tell';",
    replace: "return 'tell';",
    also: [restartsUnheeded],
    plays: { script: 'short, two', blow: 'crashSoon' },
  },
  {
    name: 'failed-flush-forgiven',
    breaks: '8: a flush that fails is taken to have lost nothing',
    file: 'device/device.js',
    find: 'this.flushFailed(error);',
    replace: ';',
    plays: { script: 'leg out and back, flushed', blow: 'failFlush' },
  },
  {
    name: 'forced-flush-forgiven',
    breaks: '8: a flush behind a forced write that fails is taken to have lost nothing',
    file: 'device/emulation.js',
    find: 'if (mayHaveLost(error))',
    replace: 'if (false)',
    also: [
      {
        file: 'device/device.js',
        find: "if ((flags & Flag.fua) === 0 || this.known.fua !== 'native')",
        replace: 'if (true)',
      },
    ],
    plays: { script: 'writes, flushed', blow: 'failFlush' },
  },
  {
    name: 'one-client-told',
    breaks: '8: of a flush that failed only the client is told that sent it',
    file: 'device/loss-report.js',
    find: `            this.told = losses;
    }`,
    replace: `            this.device.unflushed.losses = 0;
        this.told = 0;
    }`,
    plays: { script: 'last leg', blow: 'failFlush' },
  },
  {
    name: 'record-vouches',
    breaks: '2: a head goes by its own record though another head has had the legs since',
    file: 'mirror/start/survey.js',
    find: 'vouches: !head.doubts(record)',
    replace: 'vouches: true',
    // It is asked once more with the claim.
    also: [
      {
        file: 'mirror/start/opening.js',
        find: 'await doubtOwnRecord(volume, start);',
        replace: ';',
      },
    ],
    plays: { script: 'older head', blow: 'cut' },
  },
  {
    name: 'put-back-believed',
    breaks: '2: a leg that shows an older generation, and serial, than it had is taken for whole',
    file: 'mirror/start/decision.js',
    find: 'return generation.counter >= record.base.counter && ',
    replace: 'return ',
    also: [serialsUnheeded],
    plays: { script: 'rolled back', blow: 'killHead' },
  },
  {
    name: 'base-saved-late',
    breaks:
      '2: only the next change says that a generation is on every leg, and serials are no help',
    file: 'mirror/membership.js',
    find: `const saved = { ...this.saved, base };
        if (!(await this.saveHead(JSON.stringify(saved))))
            return;`,
    replace: 'const saved = this.saved;',
    also: [serialsUnheeded],
    plays: { script: 'rolled back', blow: 'killHead' },
  },
  {
    name: 'fenced-reads',
    breaks: '7: a head that was fenced goes on serving reads',
    file: 'wire/session.js',
    find: 'return this.claim > 0 && this.fenced;',
    replace: 'return false;',
    plays: { script: 'two heads', blow: 'cut' },
  },
  {
    name: 'saves-for-ever',
    breaks: '7: a save that hangs is waited for, for ever',
    file: 'mirror/membership.js',
    find: 'await within(volume, volume.store?.save(volume.key, text), left);',
    replace: 'await volume.store?.save(volume.key, text);',
    plays: { script: 'leg out and back, forced', blow: 'hangSaves' },
  },
  {
    name: 'lost-life-forgotten',
    breaks: '8: a start takes a leg that lost its cache for one that kept it',
    file: 'mirror/rules/choosing.js',
    find: 'return present.filter(({ member, bootId }) => member.bootId === bootId);',
    replace: 'return present;',
    plays: { script: 'restart', blow: 'crashSoon' },
  },
  {
    name: 'marks-believed',
    breaks: '2: a leg that shows less than it had in this generation is taken for whole',
    ...serialsUnheeded,
    plays: { script: 'put back in a run', blow: 'crashLate' },
  },
  {
    name: 'unmarked-forgotten',
    breaks: '2: what was written since the last mark is not copied to a target that restarted',
    file: 'mirror/leg.js',
    find: `return this.restarts === null
            ? this.flushedMoment
            : Math.min(this.flushedMoment, this.markedMoment);`,
    replace: 'return this.flushedMoment;',
    plays: { script: 'put back unmarked', blow: 'crashLate' },
  },
  {
    name: 'restart-unseen',
    breaks: '2: a leg whose target restarted goes on without being looked at',
    ...restartsUnheeded,
    plays: { script: 'put back unmarked', blow: 'crashLate' },
  },
  {
    name: 'lives-forgotten',
    breaks: '8: a target that starts again does not know that a flush failed',
    file: 'device/lives.js',
    find: 'return life?.from === bootId ? life.to : null;',
    replace: 'return null;',
    plays: { script: 'failed flush forgotten, local', blow: 'crashHead' },
  },
  {
    name: 'exchanged-before-claimed',
    breaks: '4: what is there once a leg is claimed is taken for what was seen there before',
    file: 'mirror/start/opening.js',
    find: 'leg.superblocks.examineAgain(',
    replace: 'leg.superblocks.examineEnds(',
    scenario: 'older copy of itself before it is claimed',
  },
  {
    name: 'spare-forgotten',
    breaks: '2: a failed flush is forgotten with the process where the state directory fails',
    file: 'device/lives.js',
    find: 'await this.spare.save(key, text);',
    replace: ';',
    scenario: 'nothing could be saved',
  },
  {
    name: 'growth-lets-in',
    breaks: '3: writes that waited for a growth that fails go on before it is over',
    file: 'mirror/growth.js',
    find: "volume.suspend(systemError(error, 'growing').message);",
    replace: "volume.clock.defer(() => volume.suspend(systemError(error, 'growing').message));",
    scenario: 'no write is let in before the log is full',
  },
  {
    name: 'source-kept',
    breaks: '6: a start goes on from a leg that has just lost what another one has',
    file: 'mirror/rules/departures.js',
    find: " || run.word === 'starting'",
    replace: '',
    scenario: 'another leg has it',
  },
]
