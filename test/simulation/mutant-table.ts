import type { Mutant } from './mutants.ts'

/**
 * Defects that the simulation must find: each takes away one thing that keeps an invariant of
 * `docs/invariants.md`, or one known answer to a trap of network mirroring.
 */
export const mutantTable: readonly Mutant[] = [
  {
    name: 'ack-before-degrade',
    breaks: '1: a write is acknowledged before the leaving of a leg is durable',
    file: 'mirror/writes.js',
    find: `        else if (volume.membership.pending)
            volume.membership.wait(this);
        else
            this.durable();
    }
    durable() {
        const { volume } = this;
        if (this.epoch !== volume.epoch)
            return;
        if (volume.inSync.length`,
    replace: `        else
            this.durable();
    }
    durable() {
        const { volume } = this;
        if (this.epoch !== volume.epoch)
            return;
        if (volume.inSync.length`,
    scenario: 'before the leaving of a leg is durable',
  },
  {
    name: 'intent-after-data',
    breaks: '3: data are written before the intent log says so',
    file: 'mirror/intent.js',
    find: `        if (durable)
            return true;
        this.waiting.push(holder);`,
    replace: `        if (!durable) void this.pump();
        if (true)
            return true;
        this.waiting.push(holder);`,
    scenario: 'nothing is written before the log says so',
  },
  {
    name: 'no-crash-recovery',
    breaks: '3: after a crash the legs are taken for equal',
    file: 'mirror/opening.js',
    find: 'const unclean = intents.count > 0;',
    replace: 'const unclean = false;',
    scenario: 'a write on one leg only',
  },
  {
    name: 'intent-cleared-unflushed',
    breaks: '3: an extent leaves the intent log before the legs flushed it',
    file: 'mirror/intent.js',
    find: '        await flushLegs(volume, latest);\n        if (volume.epoch',
    replace: '        if (volume.epoch',
    scenario: 'after its writes left the log',
  },
  {
    name: 'older-leg-first',
    breaks: '2: a volume starts although an absent leg could be newer',
    file: 'mirror/start.js',
    find: 'const enough = newest.own || awaited.length === 0 || wish.force;',
    replace: 'const enough = true;',
    scenario: 'the older leg returns first',
  },
  {
    name: 'cache-loss-ignored',
    breaks: '6: a target that restarted is taken to have what it had not flushed',
    file: 'mirror/departure.js',
    find: 'const lost = volume.intent.hasSince(leg.flushedMoment);',
    replace: 'const lost = false;',
    scenario: 'a target that lost its cache catches up',
  },
  {
    name: 'flush-by-some',
    breaks: '6: a leg that failed a flush is taken to have what it had not flushed',
    file: 'device/life.js',
    find: 'return failures.has(error.code);',
    replace: 'return false;',
    scenario: 'drops what it could not flush',
  },
  {
    name: 'overlapping-writes',
    breaks: '3: overlapping writes reach the legs in different orders',
    file: 'mirror/writes.js',
    find: 'this.rangeTo = request.offset + request.length;',
    replace: 'this.rangeTo = request.offset + 1;',
    scenario: 'writes that overlap',
  },
  {
    name: 'miss-during-copy-forgotten',
    breaks: '2: a bit is cleared though a write was missed while its extent was copied',
    file: 'mirror/resync.js',
    find: 'const missed = dirty.copying.get(extent) === true;',
    replace: 'const missed = false;',
    scenario: 'missed while its extent is copied',
  },
  {
    name: 'zeroes-not-tracked',
    breaks: '2: zeroes and trims are not noted for legs that miss them',
    file: 'mirror/writes.js',
    find: 'if (volume.absent.length > 0)',
    replace: 'if (volume.absent.length > 0 && kind === Operation.write)',
    scenario: 'resync-discard',
  },
  {
    name: 'write-error-swallowed',
    breaks: '1: the error of the last leg is not told',
    file: 'mirror/writes.js',
    find: `        this.error ??= error;
    }
    settle() {
        const { volume } = this;
        volume.intent.exit`,
    replace: `    }
    settle() {
        const { volume } = this;
        volume.intent.exit`,
    scenario: 'missed while its extent is copied',
  },
  {
    name: 'reads-from-syncing',
    breaks: '2: a leg that is being filled is read',
    file: 'mirror/reads.js',
    find: 'const { readers } = volume;',
    replace: 'const readers = volume.writers;',
    scenario: 'a leg that is being filled',
  },
  {
    name: 'superblock-serial',
    breaks: '1: superblocks are written into one slot only, and torn',
    file: 'mirror/leg.js',
    find: 'await this.write(superblockOffset(this.end, serial % 2), bytes);',
    replace: 'await this.write(superblockOffset(this.end, 0), bytes);',
    scenario: 'while superblocks are written',
  },
  {
    name: 'copies-unflushed',
    breaks: '6: a leg is in sync before what was copied to it is flushed',
    file: 'mirror/dirty.js',
    find: 'await flushLeg(volume, leg);',
    replace: '',
    scenario: 'after a resync: what was copied',
  },
  {
    name: 'replay-to-restarted',
    breaks: '4: unanswered writes are sent again to a target that lost its cache',
    file: 'wire/remote.js',
    find: 'const lost = other || (before !== null && before.bootId !== facts.bootId);',
    replace: 'const lost = other;',
    scenario: 'to a target that has restarted',
  },
  {
    name: 'no-drain',
    breaks: '4: a session is accepted while its older connection is being served',
    file: 'wire/session.js',
    find: 'if (newer || session.draining)',
    replace: 'if (false)',
    scenario: 'left in a slow disk',
  },
  {
    name: 'old-connection-lives',
    breaks: '4: an older connection of a session is not closed',
    file: 'wire/session.js',
    find: "session.kickAll('replaced by a newer connection of the same client');",
    replace: '',
    scenario: 'an older connection still brings',
  },
  {
    name: 'no-dedupe',
    breaks: '4: a write that was carried out and not answered is carried out again',
    file: 'wire/server-connection.js',
    find: 'session.recall(slot, sequence)',
    replace: '-1',
    scenario: 'not carried out again',
  },
  {
    name: 'fence-open',
    breaks: '4: what an older head left under way lands after a newer one took over',
    file: 'wire/session.js',
    find: 'return this.claim < (this.claim === 0 ? this.claimHighest : this.claimLast);',
    replace: 'return false;',
    scenario: 'replaced and arrives after',
  },
  {
    name: 'claims-alike',
    breaks: '4: two heads that start at once claim with the same number, and both serve',
    file: 'mirror/claims.js',
    find: ' + volume.head.number',
    replace: '',
    scenario: 'concurrent-promote: of heads',
  },
  {
    name: 'claimed-unseen',
    breaks: '4: a head goes by what a leg said before it was claimed',
    file: 'mirror/opening.js',
    find: 'await mustBeAsSeen(',
    replace: 'void (',
    scenario: 'loses while it is replaced',
  },
  {
    name: 'exporter-error-lost',
    breaks: '1: a target reports success for a write that failed',
    file: 'wire/server-connection.js',
    find: 'const status = error === null ? statusOk : statusOf(error.code);',
    replace: 'const status = statusOk;',
    scenario: 'io-errors: a leg that cannot write',
  },
  {
    name: 'loss-not-told',
    breaks: '6: a flush succeeds although acknowledged writes are lost',
    file: 'device/device.js',
    find: 'this.unflushed.cacheLost();',
    replace: '',
    scenario: 'are told with the next flush',
  },
  {
    name: 'fua-without-flush',
    breaks: '6: forced unit access does not flush',
    file: 'device/emulation.js',
    find: 'device.driver.submit(flush);',
    replace: 'flush.complete();',
    scenario: 'after a flush, and after a forced write',
  },
  {
    name: 'detached-untouched',
    breaks: '2: a detached leg that was changed is taken for untouched',
    file: 'mirror/manage.js',
    find: 'return stamp !== null && stamp === leg.member.stamp ? null : { leg, stamp };',
    replace: 'leg.member.stamp = stamp;\n    return null;',
    scenario: 'a detached leg that was changed',
  },
  {
    name: 'source-not-in-sync',
    breaks: '2: a resync copies from legs that are not in sync',
    file: 'mirror/copy.js',
    find: 'return this.volume.readable;',
    replace: 'return this.volume.writers.toReversed();',
    scenario: 'uuid-detach-resync',
  },
  {
    name: 'half-open-kept',
    breaks: '8: a connection on which nothing comes is kept',
    file: 'wire/remote.js',
    find: 'connection.tick(now, pingInterval, pingTimeout);',
    replace: ';',
    scenario: 'swallows everything',
  },
  {
    name: 'growth-not-zeroed',
    breaks: '5: where metadata were, a volume that has grown shows them',
    file: 'mirror/growth.js',
    find: 'volume.inSync.map(zero)',
    replace: '[]',
    scenario: 'attach-while-connected-resize',
  },
  {
    name: 'min-in-sync-ignored',
    breaks: '1: fewer legs than `minInSync` are enough to acknowledge',
    file: 'mirror/volume.js',
    find: 'return Math.min(this.settings.minInSync, this.legs.length);',
    replace: 'return 1;',
    scenario: 'quorum-isolate-primary',
  },
  {
    name: 'flush-by-too-few',
    breaks: '1: a flush is acknowledged by fewer legs than `minInSync`',
    file: 'mirror/writes.js',
    find: 'this.error === null && volume.inSync.length < volume.minInSync',
    replace: 'false',
    scenario: 'a flush is not acknowledged by fewer',
  },
  {
    name: 'lost-copies-forgotten',
    breaks: '2: what of an extent was copied is lost with a cache, and not copied again',
    file: 'mirror/dirty-map.js',
    find: 'of this.copying.keys()',
    replace: 'of []',
    scenario: 'in the middle of an extent',
  },
  {
    name: 'restored-believed',
    breaks: '2: a leg restored from an older copy of itself is taken for whole',
    file: 'mirror/leg.js',
    find: 'return identity !== undefined && ',
    replace: 'return false && ',
    scenario: 'restored from an older copy of itself',
  },
  {
    name: 'minority-repairs',
    breaks: '2: verify repairs from the minority',
    file: 'mirror/verify.js',
    find: 'same * 2 > readings.length',
    replace: 'same * 2 < readings.length',
    scenario: 'the majority repairs',
  },
  {
    name: 'unreadable-copied',
    breaks: '5: an extent that no source could read counts as copied',
    file: 'mirror/resync.js',
    find: 'const waits = this.alive() && this.unreadable.has(extent);',
    replace: 'const waits = false;',
    scenario: 'no source can read',
  },
  {
    name: 'resync-unlocked',
    breaks: '2: a resync copies over what is written meanwhile',
    file: 'mirror/resync.js',
    find: 'new LockedRange(piece.offset, piece.offset + piece.length)',
    replace: 'new LockedRange(piece.offset, piece.offset + 1)',
    scenario: 'piece is copied stays',
  },
  {
    name: 'joined-unmapped',
    breaks: '2: a leg takes part again before what it lacks is on disk',
    file: 'mirror/returning.js',
    find: `    await syncDirtyMaps(volume);
    await volume.membership.quiet();`,
    replace: '    await volume.membership.quiet();',
    scenario: 'filled to its end',
  },
  {
    name: 'maps-not-given',
    breaks: '2: a leg is in sync without the maps of what others lack',
    file: 'mirror/returning.js',
    find: 'await writeAllMaps(volume, leg);',
    replace: '',
    scenario: 'knows what others lack',
  },
  {
    name: 'log-failure-ignored',
    breaks: '3: data are written although a leg could not take the log',
    file: 'mirror/intent.js',
    find: `        await volume.membership.settled();
        if (volume.epoch !== this.epoch)
            return;
        for (const extent of fresh)`,
    replace: '        for (const extent of fresh)',
    scenario: 'has not left durably',
  },
  {
    name: 'unflushed-forgotten',
    breaks: '6: what an absent leg had not flushed is forgotten though it restarted',
    file: 'mirror/returning.js',
    find: 'if (rebooted && leg.unflushed !== null)',
    replace: 'if (false)',
    scenario: 'while it is away lacks',
  },
  {
    name: 'split-not-seen',
    breaks: '2: a leg that went its own way is taken for behind',
    file: 'mirror/returning.js',
    find: 'const past = sameGeneration(generation, record.generation) || isPast(theirs, record);',
    replace: 'const past = true;',
    scenario: 'split-brain: two heads',
  },
  {
    name: 'suspended-forgotten',
    breaks: '1: what waits for a lost leg is never carried out',
    file: 'mirror/volume.js',
    find: `for (const { request, deadline } of ended)
            this.keep`,
    replace: `for (const { request, deadline } of [])
            this.keep`,
    scenario: 'requests wait, and lose nothing',
  },
  {
    name: 'slow-leg-kept',
    breaks: '8: a leg that never answers is waited for',
    file: 'mirror/watchdog.js',
    find: 'legSlow(volume, leg);',
    replace: ';',
    scenario: 'disk-timeout',
  },
  {
    name: 'another-device',
    breaks: '4: a leg whose device was replaced goes on as if it were the same',
    file: 'mirror/departure.js',
    find: 'device.facts.identity !== leg.identity || ',
    replace: '',
    scenario: 'replaced within the hold',
  },
  {
    name: 'linear-flushes-one',
    breaks: '6: a flush of a linear flushes its first part only',
    file: 'device/linear.js',
    find: "if (part.facts.flush !== 'none')",
    replace: 'if (part === this.children[0])',
    scenario: 'power loss of everything in the middle of writes across',
  },
  {
    name: 'parked-first',
    breaks: '4: what was under way when all legs were lost lands on what came later',
    file: 'mirror/volume.js',
    find: 'const parked = this.parking.takeAll();',
    replace: 'const parked = [];',
    scenario: 'under way is carried out before',
  },
  {
    name: 'removed-before-durable',
    breaks: '2: a leg is called removed before a restart would know it',
    file: 'mirror/manage.js',
    find: `    await volume.membership.settled();
    if (volume.epoch !== epoch)
        throw volume.unavailable();`,
    replace: '',
    scenario: 'called removed counts for nothing',
  },
  {
    name: 'copy-for-original',
    breaks: '2: a copy is taken for the leg because it is in its place',
    file: 'mirror/start.js',
    find: 'return member?.name === name && isAt(one, member.identity);',
    replace: 'return member?.name === name;',
    scenario: 'cannot be told from its copy',
  },
  {
    name: 'trusted-unstamped',
    breaks: 'T12: a detached leg that is trusted is written to before that is durable',
    file: 'mirror/manage.js',
    find: `            await takeBack(volume, leg);
            const found`,
    replace: '            const found',
    scenario: 'trusted when the head crashes is returned',
  },
]
