import { leftAtStart, type Member, type VolumeRecord } from '../record.ts'

/** A leg that is there, whole, and in sync by the record, as the start sees it. */
export interface Present {
  readonly member: Member
  /** The boot id of its device now. */
  readonly bootId: string
  readonly readLast: boolean
  /**
   * Whether the target that serves the leg has outlived a crash of this head, and would tell that
   * it lost its cache: after a failed flush a moment before it would show another boot id.
   */
  readonly tells?: boolean
}

/** The verdict on the legs when the volume starts. */
export interface Choice<P extends Present> {
  /** The leg that is the truth where legs may differ. */
  readonly source: P
  /** Legs that are there and may differ from the source: they lack what is in the log. */
  readonly differ: readonly P[]
  /** Whether what was acknowledged and not flushed is gone: clients have to be told. */
  readonly lost: boolean
}

/** Legs that still have what they had not flushed. */
export function keptCache<P extends Present>(present: readonly P[]): readonly P[] {
  return present.filter(({ member, bootId }) => member.bootId === bootId)
}

/**
 * Absent members that may still have what every leg that is there lost with its cache: writes that
 * were acknowledged, and not flushed. Asked only where the log says that something was written.
 */
export function awaitedForCache(
  record: VolumeRecord,
  present: readonly Present[],
): readonly Member[] {
  if (keptCache(present).length > 0) return []
  return record.members.filter(
    (member) => member.state === 'in-sync' && !present.some((one) => one.member === member),
  )
}

/**
 * Chooses the leg that is the truth, and to which the others are made equal. After an unclean end
 * the others may differ and what was not flushed may be lost; after a clean one, neither.
 */
export function chooseSource<P extends Present>(
  present: readonly P[],
  end: 'clean' | 'unclean',
): Choice<P> {
  const kept = keptCache(present)
  const surest = kept.filter(({ tells }) => tells === true)
  const best = surest.length > 0 ? surest : kept
  const source = best.find(({ readLast }) => !readLast) ?? best[0] ?? present[0]!
  if (end === 'clean') return { source, differ: [], lost: false }
  const differ = present.filter((one) => one !== source)
  return { source, differ, lost: !kept.includes(source) }
}

/** Makes the record say which legs are in sync now. */
export function settleMembers(
  record: VolumeRecord,
  present: readonly Present[],
  { differ, source }: Choice<Present>,
): void {
  for (const member of record.members) {
    const here = present.find((one) => one.member === member)
    const { state } = member
    if (here === undefined) {
      if (state === 'in-sync') {
        member.left = leftAtStart(record)
        setMissing(member, 'absent at the start')
      } else if (state === 'syncing') setMissing(member, 'not in sync yet')
    } else {
      member.bootId = here.bootId
      if (!differ.includes(here)) continue
      member.left = record.base
      setMissing(member, `may differ from ${source.member.name} after a crash`)
    }
  }
}

function setMissing(member: Member, reason: string): void {
  member.state = 'missing'
  member.reason = reason
}
