import { goOn, hasEnough, mustPark, serveShort, settled } from './acknowledgements.ts'
import { awaitedForCache, chooseSource } from './choosing.ts'
import { cleanedMaps, flushedForLog } from './cleaning.ts'
import { failed, goAway, isLast, leave, restarted } from './departures.ts'
import { flushed, notFlushed } from './flushes.ts'
import { countsNow, isQuiet } from './maps.ts'
import { flushedForStart, startedMaps } from './opening.ts'
import { handedOver, mapsOfLeg } from './returning.ts'
import { beginRound, madeDurable, needsBase, superblock } from './rounds.ts'
import { begun, failedOnLast, missed } from './writing.ts'

/**
 * Every decision, by name. The rules call each other through this table, so that a test can put a
 * defect in the place of one of them and see that it is found. Nothing else writes to it.
 */
export const rules = {
  awaitedForCache,
  beginRound,
  begun,
  chooseSource,
  cleanedMaps,
  countsNow,
  failed,
  failedOnLast,
  flushed,
  flushedForLog,
  flushedForStart,
  goAway,
  goOn,
  handedOver,
  hasEnough,
  isLast,
  isQuiet,
  leave,
  madeDurable,
  mapsOfLeg,
  missed,
  mustPark,
  needsBase,
  notFlushed,
  restarted,
  serveShort,
  settled,
  startedMaps,
  superblock,
}
