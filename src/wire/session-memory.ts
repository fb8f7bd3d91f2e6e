import { Feature, type Welcome } from './hello.ts'

/**
 * What a client knows of the session that it has with a server, to tell whether the server still
 * knows it. One that forgot it cannot tell what it has carried out from what it has not.
 */
export class SessionMemory {
  private instance = ''
  /** '' with a server that does not tell. */
  private number = ''
  /** Whether the server that goes on has forgotten what it had of us before this session. */
  forgotten = false
  /**
   * How often a session was begun with a server that had restarted, or had forgotten the last; or
   * after a target below it had restarted.
   */
  restarts = 0

  /** The first welcome of each session. A server that restarted is known by its boot id. */
  look(welcome: Welcome): void {
    const { instance } = welcome
    const number = numberIn(welcome)
    const told = this.number !== '' && number !== ''
    this.forgotten = told && isSameProcess(instance, this.instance) && number !== this.number
    if (this.forgotten || (this.instance !== '' && instance !== this.instance)) this.restarts++
    this.instance = instance
    this.number = number
  }

  /** Whether a further welcome is of the session as it began: what restarted since is looked at. */
  isOfSession(welcome: Welcome): boolean {
    return welcome.instance === this.instance && numberIn(welcome) === this.number
  }
}

function numberIn({ features, text }: Welcome): string {
  return (features & Feature.memory) === 0 ? '' : text
}

/** The other half changes as well when a target below the server restarts. */
function isSameProcess(one: string, other: string): boolean {
  return one.slice(0, one.length / 2) === other.slice(0, other.length / 2)
}
