/** All combinations of choices, one after the other. */
export class Odometer {
  private readonly digits: number[] = []
  private readonly bases: number[] = []
  private at = 0

  /** What was chosen last. */
  get choices(): readonly number[] {
    return [...this.digits]
  }

  readonly choose = (count: number): number => {
    if (this.at === this.digits.length) {
      this.digits.push(0)
      this.bases.push(count)
    }
    return this.digits[this.at++]!
  }

  /** Begins the next combination; false when there is none. */
  next(): boolean {
    this.at = 0
    while (this.digits.length > 0) {
      const last = this.digits.length - 1
      if (++this.digits[last]! < this.bases[last]!) return true
      this.digits.pop()
      this.bases.pop()
    }
    return false
  }
}
