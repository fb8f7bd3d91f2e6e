import { expect } from 'chai'
import { resolve } from 'node:path'
import { startProgram } from '../../src/base/program.ts'
import { mustRun } from '../support/programs.ts'

/**
 * A program that uses up its descriptors, has a file punch holes, then gives the descriptors back
 * and tries again. It prints what became of the trims.
 */
const script = (image: string): string => `
import fs from 'node:fs'
const { systemClock } = await import('${resolve('dist/src/base/clock.js')}')
const { Slab } = await import('${resolve('dist/src/base/slab.js')}')
const { Device } = await import('${resolve('dist/src/device/device.js')}')
const { FileDriver } = await import('${resolve('dist/src/devices/file/file.js')}')
const { submit } = await import('${resolve('dist/test/support/io.js')}')
const options = { path: '${image}', size: 1 << 24, create: true }
const device = new Device('disk', new FileDriver(options, new Slab(), systemClock), systemClock)
await device.open()
const taken = []
try {
  for (;;) taken.push(fs.openSync('/dev/null'))
} catch {}
const say = ({ error }) => console.log(error === null ? 'done' : error.code + ' ' + error.message)
const alive = setInterval(() => undefined, 1000)
const all = [0, 1, 2].map((at) => submit(device, 3, at << 21, 1 << 20))
for (const outcome of await Promise.all(all)) say(outcome)
say(await submit(device, 4, 0, 1 << 20))
for (const fd of taken) fs.closeSync(fd)
say(await submit(device, 3, 0, 1 << 20))
await device.close()
clearInterval(alive)
`

describe('a program that does not start', () => {
  it('is told once, whether it is not there or cannot be run', async () => {
    for (const name of ['dst-no-such-program', '/dev/null']) {
      const told: string[] = []
      await new Promise<void>((resolve) => {
        startProgram(name, [], { stdio: ['pipe', 'pipe', 'pipe'] }, (error) => {
          told.push(error.message)
          setImmediate(resolve)
        })
      })
      expect(told).to.have.length(1)
      expect(told[0]).to.include(name)
    }
  })

  it('for want of descriptors fails requests with a sentence, then starts', async function () {
    if (process.platform !== 'linux') this.skip()
    const folder = await mustRun('mktemp', ['-d'])
    const image = `${folder.trim()}/image`
    const words = ['--input-type=module', '-e', script(image)]
    const limited = ['-c', 'ulimit -n 80; exec "$@"', 'sh', process.execPath, ...words]
    const lines = (await mustRun('sh', limited)).trim().split('\n')
    await mustRun('rm', ['-r', folder.trim()])
    expect(lines).to.have.length(5)
    for (const line of lines.slice(0, 3))
      expect(line).to.match(/^BUSY trim of \d+ bytes at \d+: the program sh does not start/)
    // Zeroes can be written instead.
    expect(lines.slice(3)).to.deep.equal(['done', 'done'])
  })
})
