import { expect } from 'chai'
import { dst, Workshop } from '../support/process.ts'

describe('commands without a terminal', () => {
  let workshop: Workshop
  beforeEach(() => (workshop = new Workshop()))
  afterEach(() => workshop.close())

  it('say what became of the leg or the volume', async () => {
    const management = 'unix:dst.sock'
    const leg = { type: 'memory', size: '8M' }
    await workshop.serve('t', {
      management: { address: management },
      devices: { m: { type: 'mirror', legs: { a: leg, b: leg } }, c: leg },
    })
    for (const [words, said] of [
      ['leg detach m b', /^m\/b is detached\n$/],
      ['leg attach m b', /^m\/b is (in-sync|syncing: `dst status m` shows how far it is)\n$/],
      ['leg add m third c --wait', /^m\/third is in-sync\n$/],
      ['leg remove m third', /^m\/third is no leg any more\n$/],
      ['volume start m', /^m is (healthy|syncing)\n$/],
    ] as const) {
      const command = [...words.split(' '), '--management', management]
      const { code, stdout, stderr } = await dst(command, workshop.folder)
      expect(code, stderr).to.equal(0)
      expect(stdout, words).to.match(said)
    }
  })
})
