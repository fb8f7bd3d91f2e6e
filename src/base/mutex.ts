/** Carries out tasks one after the other, in the order they came. */
export class Mutex {
  private last: Promise<unknown> = Promise.resolve()

  /** Settles as the task does. A rejection does not hold up the next task. */
  run<T>(task: () => Promise<T>): Promise<T> {
    const result = this.last.then(task)
    this.last = result.catch(() => undefined)
    return result
  }
}
