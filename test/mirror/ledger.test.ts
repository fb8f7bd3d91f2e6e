import { expect } from 'chai'
import { MiB } from '../../src/base/size.ts'
import { addEntry } from '../../src/mirror/data/ledger.ts'
import type { HistoryKind, VolumeRecord } from '../../src/mirror/record.ts'
import { pattern, disks, failing, Head, later, MemoryStore } from './head.ts'
import { write } from '../support/io.ts'
import { Operation } from '../../src/device/request.ts'

/** The little of a record that has to do with its history. */
function emptyRecord(): VolumeRecord {
  const generation = { counter: 1, id: '0'.repeat(16) }
  return { generation, entries: [] as VolumeRecord['entries'] } as VolumeRecord
}

describe('the history of a volume', () => {
  function add(record: VolumeRecord, at: number, kind: HistoryKind, text: string): void {
    addEntry(record, 16, at, { kind, leg: 'right', text })
  }

  const shown = ({ entries }: VolumeRecord): string[] =>
    entries.map(({ text, times = 1, first }) => `${text} ${times} ${first ?? ''}`.trim())

  it('counts what happens again, and keeps what came before', () => {
    const record = emptyRecord()
    add(record, 0, 'start', 'started as a new volume')
    for (let turn = 0; turn < 100; turn++) {
      add(record, 1000 * turn, 'membership', `left as failed: write ${turn}+4096`)
      add(record, 1000 * turn + 500, 'membership', 'is back')
    }
    expect(shown(record)).to.deep.equal([
      'started as a new volume 1',
      'left as failed: write 99+4096 100 0',
      'is back 100 500',
    ])
    expect(record.entries.map(({ at }) => at)).to.deep.equal([0, 99_000, 99_500])
    const numbers = record.entries.map(({ number }) => number)
    expect(numbers).to.deep.equal(numbers.toSorted((one, other) => one - other))
  })

  it('takes the same thing on another day, and every word of an operator, for news', () => {
    const record = emptyRecord()
    add(record, 0, 'membership', 'left')
    add(record, 3_600_000, 'membership', 'left')
    add(record, 3_600_001, 'operator', 'invalidated')
    add(record, 3_600_002, 'operator', 'invalidated')
    expect(shown(record)).to.deep.equal(['left 1', 'left 1', 'invalidated 1', 'invalidated 1'])
  })

  it('still has how the volume began when a leg has failed at every try', async () => {
    const legs = disks('a', 'b')
    const settings = { historyMax: 16, legRetryMs: 1, legRetryMsMax: 1 }
    const head = await new Head(legs, new MemoryStore(), settings).open()
    const bad = (operation: Operation, offset: number) =>
      operation === Operation.write && offset >= MiB && offset < 2 * MiB
    failing(legs['b']!, bad)
    await write(head.device, MiB, pattern(1))
    await head.until('it left', () => head.state('b') !== 'in-sync')
    const { since } = head.leg('b')
    const left = () => head.history().find(({ text }) => text.startsWith('left as failed'))
    await head.until('it left again and again', () => (left()?.times ?? 0) > 10)
    expect(head.history()[0]!.text).to.include('started as a new volume')
    expect(head.leg('b').since).to.equal(since)
    await later(1)
    await head.device.close()
  })

  it('of a volume that waits says for what', async () => {
    const head = await new Head(disks('a', 'b'), new MemoryStore(), {}, ['b']).open()
    const [entry, ...more] = head.history()
    expect(more).to.deep.equal([])
    expect(entry!.text).to.match(/^it is waiting now: .*waiting for b \(opening: not there\)/)
    await head.device.close()
  })
})
