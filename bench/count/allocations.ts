import { Session } from 'node:inspector'

/** What a process allocated in a while. */
export interface Allocations {
  /** On the heap: what buffers hold outside is not counted, the buffer objects are. */
  readonly objects: number
  readonly bytes: number
  /** Those of the objects that functions of Node itself did not make. */
  readonly ownObjects: number
  /** Where, most objects first: `writeGeneric net.js`. */
  readonly sites: readonly { readonly where: string; readonly objects: number }[]
}

const session = new Session()
session.connect()

/**
 * From now on counts what this process allocates, by V8's sampling heap profiler told to keep what
 * was collected as well.
 */
export function startAllocations(): void {
  session.post('HeapProfiler.startSampling', {
    // Every allocation: exact counts, at the price of a slow program.
    samplingInterval: 1,
    includeObjectsCollectedByMajorGC: true,
    includeObjectsCollectedByMinorGC: true,
  } as object)
}

export function stopAllocations(): Allocations {
  const found: Profile[] = []
  // Answered before `post` returns: the session is to our own thread.
  session.post('HeapProfiler.stopSampling', (error, result) => {
    if (error === null) found.push(result.profile as unknown as Profile)
  })
  const [profile] = found
  if (profile === undefined) throw new Error('the heap profiler did not answer')
  return summarize(profile)
}

/** As the protocol has it ("HeapProfiler" domain); Node's types know an older form. */
interface Profile {
  readonly head: ProfileNode
  readonly samples: readonly { readonly size: number; readonly nodeId: number }[]
}

interface ProfileNode {
  readonly id: number
  readonly callFrame: { readonly functionName: string; readonly url: string }
  readonly children: readonly ProfileNode[]
}

function summarize({ head, samples }: Profile): Allocations {
  const frames = new Map<number, ProfileNode['callFrame']>()
  const visit = ({ id, callFrame, children }: ProfileNode): void => {
    frames.set(id, callFrame)
    children.forEach(visit)
  }
  visit(head)
  const sites = new Map<string, number>()
  let bytes = 0
  let ownObjects = 0
  for (const { nodeId, size } of samples) {
    const { functionName, url } = frames.get(nodeId)!
    const where = `${functionName || '(anonymous)'} ${url.split('/').pop() ?? ''}`.trim()
    sites.set(where, (sites.get(where) ?? 0) + 1)
    bytes += size
    if (url.startsWith('file:')) ownObjects++
  }
  const sorted = [...sites].sort((a, b) => b[1] - a[1])
  return {
    objects: samples.length,
    ownObjects,
    bytes,
    sites: sorted.map(([where, objects]) => ({ where, objects })),
  }
}
