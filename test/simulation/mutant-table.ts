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
  },
  {
    name: 'no-crash-recovery',
    breaks: '3: after a crash the legs are taken for equal',
    file: 'mirror/opening.js',
    find: 'const unclean = intents.count > 0;',
    replace: 'const unclean = false;',
  },
  {
    name: 'intent-cleared-unflushed',
    breaks: '3: an extent leaves the intent log before the legs flushed it',
    file: 'mirror/intent.js',
    find: '        await flushLegs(volume, latest);\n        if (volume.epoch',
    replace: '        if (volume.epoch',
  },
  {
    name: 'older-leg-first',
    breaks: '2: a volume starts although an absent leg could be newer',
    file: 'mirror/start.js',
    find: 'const enough = newest.own || awaited.length === 0 || wish.force;',
    replace: 'const enough = true;',
  },
  {
    name: 'cache-loss-ignored',
    breaks: '6: a target that restarted is taken to have what it had not flushed',
    file: 'mirror/departure.js',
    find: 'if (unflushed && !isLast(volume, leg)) {',
    replace: 'if (false) {',
  },
  {
    name: 'flush-by-some',
    breaks: '6: a flush is acknowledged though a leg in sync failed it',
    file: 'mirror/writes.js',
    find: 'else if (!flushFailed(volume, leg, error))',
    replace: 'else if (false)',
  },
  {
    name: 'overlapping-writes',
    breaks: '3: overlapping writes reach the legs in different orders',
    file: 'mirror/writes.js',
    find: 'this.rangeTo = request.offset + request.length;',
    replace: 'this.rangeTo = request.offset + 1;',
  },
  {
    name: 'miss-during-copy-forgotten',
    breaks: '2: a bit is cleared though a write was missed while its extent was copied',
    file: 'mirror/resync.js',
    find: 'const missed = dirty.copying.get(extent) === true;',
    replace: 'const missed = false;',
  },
  {
    name: 'zeroes-not-tracked',
    breaks: '2: zeroes and trims are not noted for legs that miss them',
    file: 'mirror/writes.js',
    find: 'if (volume.absent.length > 0)',
    replace: 'if (volume.absent.length > 0 && kind === Operation.write)',
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
  },
  {
    name: 'reads-from-syncing',
    breaks: '2: a leg that is being filled is read',
    file: 'mirror/reads.js',
    find: 'const { readers } = volume;',
    replace: 'const readers = volume.writers;',
  },
  {
    name: 'superblock-serial',
    breaks: '1: superblocks are written into one slot only, and torn',
    file: 'mirror/leg.js',
    find: 'await this.write(superblockOffset(this.end, serial % 2), bytes);',
    replace: 'await this.write(superblockOffset(this.end, 0), bytes);',
  },
  {
    name: 'copies-unflushed',
    breaks: '6: a leg is in sync before what was copied to it is flushed',
    file: 'mirror/dirty.js',
    find: 'await leg.flush();',
    replace: '',
  },
  {
    name: 'replay-to-restarted',
    breaks: '4: unanswered writes are sent again to a target that lost its cache',
    file: 'wire/remote.js',
    find: 'const lost = other || (before !== null && before.bootId !== facts.bootId);',
    replace: 'const lost = other;',
  },
  {
    name: 'no-drain',
    breaks: '4: a session is accepted while its older connection is being served',
    file: 'wire/session.js',
    find: 'if (newer || session.draining)',
    replace: 'if (false)',
  },
  {
    name: 'old-connection-lives',
    breaks: '4: an older connection of a session is not closed',
    file: 'wire/session.js',
    find: "session.kickAll('replaced by a newer connection of the same client');",
    replace: '',
  },
  {
    name: 'no-dedupe',
    breaks: '4: a write that was carried out and not answered is carried out again',
    file: 'wire/server-connection.js',
    find: 'session.recall(slot, sequence)',
    replace: '-1',
  },
  {
    name: 'fence-open',
    breaks: '4: what an older head left under way lands after a newer one took over',
    file: 'wire/session.js',
    find: 'return session.claim < (this.claims.get(session.target.device) ?? 0);',
    replace: 'return false;',
  },
  {
    name: 'claims-alike',
    breaks: '4: two heads that start at once claim with the same number, and both serve',
    file: 'mirror/opening.js',
    find: ' + Math.floor(volume.random.fraction() * claimsPerStep)',
    replace: '',
  },
  {
    name: 'claimed-unseen',
    breaks: '4: a head goes by what a leg said before it was claimed',
    file: 'mirror/opening.js',
    find: 'await mustBeAsSeen(',
    replace: 'void (',
  },
  {
    name: 'exporter-error-lost',
    breaks: '1: a target reports success for a write that failed',
    file: 'wire/server-connection.js',
    find: 'const status = error === null ? statusOk : statusOf(error.code);',
    replace: 'const status = statusOk;',
  },
  {
    name: 'loss-not-told',
    breaks: '6: a flush succeeds although acknowledged writes are lost',
    file: 'device/device.js',
    find: 'this.unflushed.cacheLost();',
    replace: '',
  },
  {
    name: 'fua-without-flush',
    breaks: '6: forced unit access does not flush',
    file: 'device/emulation.js',
    find: 'device.driver.submit(flush);',
    replace: 'flush.complete();',
  },
]
