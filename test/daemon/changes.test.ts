import { expect } from 'chai'
import { answerMs } from '../../src/base/deadline.ts'
import { Changes } from '../../src/daemon/changes.ts'
import { ManualClock } from '../support/clock.ts'
import { MemoryStore } from '../support/memory-store.ts'

describe('what commands changed', () => {
  const configured = (...legs: string[]) => new Map([['home', new Set(legs)]])
  const clock = new ManualClock()

  it('is warned of until the configuration says the same, also by later starts', async () => {
    const store = new MemoryStore()
    const first = new Changes(store, clock, configured('left', 'right'))
    const added = await first.note('home', 'third', 'added')
    expect(added).to.match(/^leg third of home was added by a command at 2023-11-14 22:13 /)
    const removed = await first.note('home', 'right', 'removed')
    expect(removed).to.include('a start makes it a leg again and fills it')
    expect(first.warnings).to.deep.equal([added, removed])
    const second = new Changes(store, clock, configured('left', 'right'))
    await second.load()
    expect(second.warnings).to.deep.equal([added, removed])
    const third = new Changes(store, clock, configured('left', 'third', 'right'))
    await third.load()
    expect(third.warnings).to.deep.equal([removed])
  })

  it('is forgotten when a command undoes it', async () => {
    const changes = new Changes(new MemoryStore(), clock, configured('left', 'right'))
    await changes.note('home', 'right', 'removed')
    expect(await changes.note('home', 'right', 'added')).to.equal('')
    expect(changes.warnings).to.deep.equal([])
  })

  it('is nothing where its file makes no sense or cannot be kept', async () => {
    for (const text of ['', '{}', '[1,null,{}]', '[{"volume":"home","leg":"x","what":"eaten"}]']) {
      const store = new MemoryStore()
      await store.save('_commands', text)
      const changes = new Changes(store, clock, configured('left'))
      await changes.load()
      expect(changes.warnings, text).to.deep.equal([])
    }
    const store = new MemoryStore()
    store.save = () => Promise.reject(new Error('full'))
    const changes = new Changes(store, clock, configured('left'))
    expect(await changes.note('home', 'right', 'added')).to.include('is not in the configuration')
  })

  it('is warned of also where the state directory hangs', async () => {
    const store = new MemoryStore()
    store.save = () => new Promise(() => undefined)
    const changes = new Changes(store, clock, configured('left'))
    const noted = changes.note('home', 'right', 'added')
    clock.advance(answerMs)
    expect(await noted).to.include('is not in the configuration')
  })
})
