import { expect } from 'chai'
import { Admission, type Waiter } from '../../src/net/admission.ts'

class Client implements Waiter {
  granted = 0
  private readonly admission: Admission
  private readonly bytes: number

  constructor(admission: Admission, bytes: number) {
    this.admission = admission
    this.bytes = bytes
  }

  want(): void {
    if (this.admission.reserve(this.bytes, this)) this.granted++
  }

  admitted(): void {
    this.want()
  }
}

/** Wants everything there is, again and again. */
class Greedy extends Client {
  override admitted(): void {
    const before = this.granted
    this.want()
    if (this.granted > before) this.admitted()
  }
}

describe('admission', () => {
  it('grants up to the limit, then in order of arrival', () => {
    const admission = new Admission(100)
    const clients = [60, 60, 10].map((bytes) => new Client(admission, bytes))
    for (const client of clients) client.want()
    expect(clients.map((client) => client.granted)).to.deep.equal([1, 0, 0])
    admission.giveBack(60)
    expect(clients.map((client) => client.granted)).to.deep.equal([1, 1, 1])
    expect(admission.bytesInFlight).to.equal(70)
  })

  it('does not let small requests overtake a large one for ever', () => {
    const admission = new Admission(100)
    const small = [0, 1, 2, 3].map(() => new Client(admission, 25))
    for (const client of small) client.want()
    const large = new Client(admission, 100)
    large.want()
    for (let turn = 0; turn < 4; turn++) {
      small[turn]!.want()
      admission.giveBack(25)
    }
    expect(large.granted).to.equal(1)
  })

  it('gives one that waits for much no more than its turn', () => {
    const admission = new Admission(100)
    const first = new Client(admission, 100)
    first.want()
    const greedy = new Greedy(admission, 30)
    const modest = new Client(admission, 30)
    greedy.want()
    modest.want()
    admission.giveBack(100)
    expect(modest.granted).to.equal(1)
    expect(greedy.granted).to.equal(2)
  })

  it('forgets who is gone', () => {
    const admission = new Admission(100)
    new Client(admission, 90).want()
    const gone = new Client(admission, 100)
    const next = new Client(admission, 10)
    gone.want()
    next.want()
    admission.forget(gone)
    expect([gone.granted, next.granted]).to.deep.equal([0, 1])
  })
})
