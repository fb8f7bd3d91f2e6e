import { ChildProcess } from 'node:child_process'
import { Server, Socket } from 'node:net'

/** Node does not document what gives the handles themselves, only what gives their kinds. */
interface Handles {
  _getActiveHandles?: () => object[]
}

/** Knows what keeps the process alive, and after which test it was first seen. */
export class HandleWatch {
  private readonly since = new WeakMap<object, string>()

  /** What is open now and was not before is put down to `title`. */
  attribute(title: string): void {
    for (const handle of handles()) if (!this.since.has(handle)) this.since.set(handle, title)
  }

  /** A line for each handle, and one for each kind of what has none, such as timers. */
  alive(): string[] {
    const lines = handles().map((handle) => {
      const title = this.since.get(handle)
      return `${nameOf(handle)}${title === undefined ? '' : `, open since: ${title}`}`
    })
    const counts = new Map<string, number>()
    for (const kind of process.getActiveResourcesInfo())
      if (!/Wrap$|^Signal/.test(kind)) counts.set(kind, (counts.get(kind) ?? 0) + 1)
    return [...lines, ...[...counts].map(([kind, count]) => `${count} of ${kind}`)]
  }
}

function handles(): object[] {
  const own: object[] = [process.stdin, process.stdout, process.stderr]
  return ((process as Handles)._getActiveHandles?.() ?? []).filter((each) => !own.includes(each))
}

function nameOf(handle: object): string {
  if (handle instanceof ChildProcess)
    return `process ${handle.pid ?? 'without a number'} (${handle.spawnargs.join(' ')})`
  if (handle instanceof Server) return `server at ${JSON.stringify(handle.address())}`
  if (handle instanceof Socket) {
    const { localAddress, localPort, remoteAddress, remotePort } = handle
    if (remoteAddress === undefined) return 'socket or pipe'
    return `socket from ${localAddress}:${localPort} to ${remoteAddress}:${remotePort}`
  }
  return handle.constructor.name
}
