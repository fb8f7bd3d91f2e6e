import { assert } from './errors.ts'

/** The links of an element; only the line changes them. */
export interface Waiting<T> {
  /** Null in the last element and in one that is in no line. */
  behind: T | null
  ahead: T | null
}

/** Elements that wait in order and may leave from any place. An element is in one line at most. */
export class Line<T extends Waiting<T>> {
  private last: T | null = null
  first: T | null = null
  length = 0

  /** Adds the element at the end. */
  push(element: T): void {
    assert(element.ahead === null && this.first !== element, 'an element stands in a line once')
    element.ahead = this.last
    if (this.last === null) this.first = element
    else this.last.behind = element
    this.last = element
    this.length++
  }

  /** Removes the element, which must be in this line. */
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

  /** Moves the first element to the end and returns it; null when the line is empty. */
  rotate(): T | null {
    const { first } = this
    if (first === null) return null
    this.remove(first)
    this.push(first)
    return first
  }
}
