export class Verify {
  describe(): Record<string, unknown> {
    return {}
  }

  stop(): void {
    this.describe()
  }
}
