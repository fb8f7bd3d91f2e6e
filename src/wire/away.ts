/** The most sessions without connections that a server remembers. */
const awayMax = 4096

/** The part of a session that decides how long it is remembered. */
export interface Rememberable {
  /** True once it has changed anything. */
  readonly wrote: boolean
  /** Requests that its device still has. */
  readonly inFlight: number
}

/**
 * Sessions whose clients are away. Of too many, those go first that never wrote: strangers come and
 * go as they like. Only a change can be done twice, so sessions that wrote are remembered longest.
 */
export class AwaySessions<Session extends Rememberable> {
  /** The sessions that were left first come first. */
  private readonly writers = new Set<Session>()
  private readonly others = new Set<Session>()

  /** Adds a session. Returns one that has to be forgotten for it; null for none. */
  add(session: Session): Session | null {
    this.delete(session)
    const away = session.wrote ? this.writers : this.others
    away.add(session)
    return this.writers.size + this.others.size > awayMax ? this.first() : null
  }

  delete(session: Session): void {
    this.writers.delete(session)
    this.others.delete(session)
  }

  private first(): Session | null {
    for (const away of [this.others, this.writers])
      for (const session of away) if (session.inFlight === 0) return session
    return null
  }
}
