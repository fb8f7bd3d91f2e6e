import type { Volume } from './volume.ts'

/** Claims between two generations: room for the numbers that tell heads apart. */
const claimsPerStep = 2 ** 20
/** A claim stays a whole number that the wire can say exactly. */
const stepMax = 2 ** 32

/**
 * What this head claims its legs with: above every generation seen, and never what another head
 * takes that saw the same, so that of two that start at once one is the older. A head keeps its
 * number over restarts: what it claimed before it died does not keep it out.
 */
export async function nextClaim(volume: Volume): Promise<number> {
  volume.headNumber ??= await headNumber(volume)
  return (volume.counterFloor + 1) * claimsPerStep + volume.headNumber
}

/**
 * Another head has claimed more, and may have died before it could serve: the next claim is twice
 * as high, so that few attempts are enough wherever it was.
 * Made at once, because a leg that was refused is not reached before it is claimed with more.
 */
export async function outbid(volume: Volume): Promise<void> {
  const step = Math.floor(volume.claimed / claimsPerStep)
  volume.outbid = volume.counterFloor = Math.min(2 * step, stepMax)
  const claim = await nextClaim(volume)
  for (const { device } of volume.legs)
    if (device.state.word === 'failed') device.driver.claim?.(claim).catch(() => undefined)
}

async function headNumber(volume: Volume): Promise<number> {
  const { store, random } = volume
  if (store === null) return 0
  const key = `${volume.key}_head`
  const fresh = Math.floor(random.fraction() * claimsPerStep)
  try {
    const saved = Number((await store.load(key)) ?? NaN)
    if (Number.isInteger(saved) && saved >= 0 && saved < claimsPerStep) return saved
    await store.save(key, String(fresh))
  } catch (error) {
    volume.log.warn({ error, volume: volume.path }, "the head's number cannot be kept")
  }
  return fresh
}
