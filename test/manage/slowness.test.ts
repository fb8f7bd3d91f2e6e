import { expect } from 'chai'
import { slowLegs } from '../../src/manage/slowness.ts'
import type { Device, Leg } from '../../src/manage/status.types.ts'

describe('a slow leg', () => {
  const leg = (latency: Device['latency'], state: Leg['state'] = 'in-sync'): Leg => ({
    state,
    device: { latency } as unknown as Device,
  })

  const said = (legs: Record<string, Leg>) => Object.fromEntries(slowLegs(legs))

  it('is named with its time, and that of another', () => {
    expect(said({ left: leg({ write: 0.2 }), right: leg({ write: 3021 }) })).to.deep.equal({
      right: 'writes take 3.0 s, those of left 0.2 ms',
    })
    const legs = { a: leg({ read: 2, flush: 30 }), b: leg({ read: 80, flush: 30 }), c: leg({}) }
    expect(said(legs)).to.deep.equal({ b: 'reads take 80 ms, those of a 2 ms' })
  })

  it('is none where all are as slow, or nobody would notice, or it takes no part', () => {
    expect(said({ left: leg({ write: 3000 }), right: leg({ write: 3021 }) })).to.deep.equal({})
    expect(said({ left: leg({ write: 0.1 }), right: leg({ write: 20 }) })).to.deep.equal({})
    const syncing = leg({ write: 3000 }, 'syncing')
    expect(said({ left: leg({ write: 0.1 }), right: syncing })).to.deep.equal({})
    expect(said({ only: leg({ write: 3000 }) })).to.deep.equal({})
  })
})
