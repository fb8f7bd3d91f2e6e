import { Session } from 'node:inspector'
import { PerformanceObserver } from 'node:perf_hooks'

/** What a process allocated in a while. */
export interface Allocations {
  /** On the heap: what buffers hold outside is not counted, the buffer objects are. */
  readonly objects: number
  readonly bytes: number
  /** Those of the objects that functions of Node itself did not make. */
  readonly ownObjects: number
  /** Milliseconds of garbage collection. */
  readonly collecting: number
  /** Where, most objects first: `writeGeneric net.js`. */
  readonly sites: readonly { readonly where: string; objects: number; bytes: number }[]
}

/** Every allocation is sampled: exact counts, at the price of a slow program. */
const everyAllocation = 1

/**
 * Counts what this process allocates, by V8's sampling heap profiler told to keep what was
 * collected as well.
 */
export class AllocationCounter {
  private readonly session = new Session()
  private readonly observer: PerformanceObserver
  private collecting = 0

  constructor() {
    this.session.connect()
    this.observer = new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) this.collecting += duration
    })
  }

  start(): void {
    this.collecting = 0
    this.observer.observe({ entryTypes: ['gc'] })
    this.session.post('HeapProfiler.startSampling', {
      samplingInterval: everyAllocation,
      includeObjectsCollectedByMajorGC: true,
      includeObjectsCollectedByMinorGC: true,
    } as object)
  }

  stop(): Allocations {
    const found: Profile[] = []
    // Answered before `post` returns: the session is to our own thread.
    this.session.post('HeapProfiler.stopSampling', (error, result) => {
      if (error === null) found.push(result.profile as unknown as Profile)
    })
    this.observer.disconnect()
    const [profile] = found
    if (profile === undefined) throw new Error('the heap profiler did not answer')
    return summarize(profile, this.collecting)
  }
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

function summarize(profile: Profile, collecting: number): Allocations {
  const places = new Map<number, string>()
  const own = new Set<number>()
  const visit = (node: ProfileNode): void => {
    const { functionName, url } = node.callFrame
    places.set(node.id, `${functionName || '(anonymous)'} ${url.split('/').pop() ?? ''}`.trim())
    if (url.startsWith('file:')) own.add(node.id)
    for (const child of node.children) visit(child)
  }
  visit(profile.head)
  const sites = new Map<string, { where: string; objects: number; bytes: number }>()
  let bytes = 0
  for (const sample of profile.samples) {
    const where = places.get(sample.nodeId) ?? '?'
    const site = sites.get(where) ?? { where, objects: 0, bytes: 0 }
    sites.set(where, site)
    site.objects++
    site.bytes += sample.size
    bytes += sample.size
  }
  return {
    objects: profile.samples.length,
    ownObjects: profile.samples.filter(({ nodeId }) => own.has(nodeId)).length,
    bytes,
    collecting,
    sites: [...sites.values()].sort((a, b) => b.objects - a.objects),
  }
}
