import { assert } from './errors.ts'

/** What an element of a line has; both are for the line alone. */
export interface Waiting<T> {
  /** Null in the last one, as in one that stands in no line. */
  behind: T | null
  ahead: T | null
}

/** Elements that wait in order, and may leave from anywhere. Each stands in one line at most. */
export class Line<T extends Waiting<T>> {
  private last: T | null = null
  first: T | null = null
  length = 0

  push(element: T): void {
    assert(element.ahead === null && this.first !== element, 'an element stands in a line once')
    element.ahead = this.last
    if (this.last === null) this.first = element
    else this.last.behind = element
    this.last = element
    this.length++
  }

  /** The element stands in this line. */
  remove(element: T): void {
    const { ahead, behind } = element
    if (ahead === null) this.first = behind
    else ahead.behind = behind
    if (behind === null) this.last = ahead
    else behind.ahead = ahead
    element.ahead = null
    element.behind = null
    this.length--
  }

  /** Sends the first one to the end; null when there is none. */
  rotate(): T | null {
    const { first } = this
    if (first === null) return null
    this.remove(first)
    this.push(first)
    return first
  }
}
