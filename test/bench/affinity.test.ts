import { expect } from 'chai'
import { lastOf, onOneProcessor, processors } from '../../bench/servers/affinity.ts'

describe('working on one processor', () => {
  it('moves this process there, and back also after a failure', async function () {
    const before = processors()
    if (before === null) this.skip()
    let meanwhile: string | null = null
    const failed = await onOneProcessor(
      () => {
        meanwhile = processors()
        return Promise.reject(new Error('on purpose'))
      },
      () => expect.fail('it stayed'),
    ).catch((error: unknown) => (error as Error).message)
    expect(failed).to.equal('on purpose')
    expect(meanwhile).to.equal(lastOf(before))
    expect(processors()).to.equal(before)
  })

  it('says when it cannot', async () => {
    const { PATH = '' } = process.env
    let stayed = 0
    process.env['PATH'] = ''
    try {
      expect(
        await onOneProcessor(
          () => Promise.resolve(7),
          () => stayed++,
        ),
      ).to.equal(7)
    } finally {
      process.env['PATH'] = PATH
    }
    expect(stayed).to.equal(1)
  })

  it('takes the last of a list', () => {
    expect(['0', '0,1', '0-3', '0-3,6'].map(lastOf)).to.deep.equal(['0', '1', '3', '6'])
  })
})
