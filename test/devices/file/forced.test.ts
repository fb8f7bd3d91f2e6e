import { expect } from 'chai'
import nodeFs from 'node:fs'
import path from 'node:path'
import { MiB } from '../../../src/base/size.ts'
import type { Device } from '../../../src/device/device.ts'
import { Flag, Operation } from '../../../src/device/request.ts'
import { fileDevice, removeFolder, temporaryFolder } from '../../support/files.ts'
import { submit, write } from '../../support/io.ts'
import { SeededRandom } from '../../support/seeded.ts'

const random = new SeededRandom(1)

/** Functions of node:fs that fail with ENOSPC, for as long as `body` takes. */
async function whenFull(
  names: readonly ('write' | 'writev' | 'fdatasync')[],
  body: () => Promise<void>,
) {
  const full = (...args: unknown[]): void => {
    const callback = args.at(-1) as (error: Error, bytes: number) => void
    setImmediate(callback, Object.assign(new Error('on purpose'), { code: 'ENOSPC' }), 0)
  }
  const original = Object.fromEntries(names.map((name) => [name, nodeFs[name]]))
  Object.assign(nodeFs, Object.fromEntries(names.map((name) => [name, full])))
  try {
    await body()
  } finally {
    Object.assign(nodeFs, original)
  }
}
describe('a file on a full disk', () => {
  let folder: string
  beforeEach(async () => {
    folder = await temporaryFolder(true)
  })
  afterEach(() => removeFolder(folder))

  async function opened(): Promise<Device> {
    const options = { path: path.join(folder, 'image'), size: MiB, create: true }
    const device = fileDevice('disk', options)
    await device.open()
    return device
  }
  it('asks by a flush what a forced write lost for which there was no space', async () => {
    const force = async (device: Device): Promise<string> => {
      const { error } = await submit(device, Operation.write, 0, 4096, Flag.fua, [
        random.bytes(4096),
      ])
      return error?.code ?? 'done'
    }
    for (const found of [true, false]) {
      const device = await opened()
      const { bootId } = device.facts!
      await write(device, 8192, random.bytes(4096))
      const names = ['write', 'writev', ...(found ? [] : ['fdatasync' as const])] as const
      await whenFull(names, async () => {
        expect(await force(device)).to.equal('NO_SPACE')
      })
      expect(device.facts!.bootId === bootId).to.equal(found)
      expect(device.losses).to.equal(found ? 0 : 1)
      expect(device.state.word).to.equal(found ? 'online' : 'degraded')
      await device.close()
    }
  })
})
