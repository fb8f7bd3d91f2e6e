import { Feature, type Welcome } from './hello.ts'

/**
 * What a client knows of the session that it has with a server, to tell whether the server still
 * knows it. A server that forgot it cannot tell what it has carried out from what it has not.
 */
export class SessionMemory {
  private instance = ''
  /** The session's number; '' with a server that does not tell. */
  private number = ''
  /** True when the server went on, but had forgotten the session before this one. */
  forgotten = false
  /**
   * How often a session was begun with a server that had restarted, or had forgotten the last; or
   * after a target below it had restarted.
   */
  restarts = 0

  /** Takes in the first welcome of each session. A server's restart shows in the boot id. */
  look(welcome: Welcome): void {
    const { instance } = welcome
    const number = numberIn(welcome)
    const told = this.number !== '' && number !== ''
    this.forgotten = told && isSameProcess(instance, this.instance) && number !== this.number
    if (this.forgotten || (this.instance !== '' && instance !== this.instance)) this.restarts++
    this.instance = instance
    this.number = number
  }

  /** True when a further welcome is of the same session, with nothing restarted since it began. */
  isOfSession(welcome: Welcome): boolean {
    return welcome.instance === this.instance && numberIn(welcome) === this.number
  }
}

function numberIn({ features, text }: Welcome): string {
  return (features & Feature.memory) === 0 ? '' : text
}

/** Compares the first halves; the second also changes when a target below the server restarts. */
function isSameProcess(one: string, other: string): boolean {
  return one.slice(0, one.length / 2) === other.slice(0, other.length / 2)
}
