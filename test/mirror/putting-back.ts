import { expect } from 'chai'
import { superblockOffset } from '../../src/mirror/layout.ts'
import { flush, read, write } from '../support/io.ts'
import type { Disk } from './disk.ts'
import { pattern, type Head } from './head.ts'

export type Legs = Readonly<Record<string, Disk>>

export const quickLog = { intentIdleMs: 2 }

/** Copies what a disk has, to put it back later: the same disk, with an older content. */
export function copyOf(disk: Disk): () => void {
  const content = Buffer.from(disk.stable)
  return () => {
    content.copy(disk.cached)
    content.copy(disk.stable)
  }
}

export async function put(head: Head, byte: number): Promise<void> {
  await write(head.device, 0, pattern(byte))
  await flush(head.device)
}

/** Until the intent log is empty: what is copied then says nothing of what comes. */
export function logEmpty(head: Head): Promise<void> {
  return head.until('the log is empty', () => head.driver.describe()['hotExtents'] === 0)
}

/** Every leg that answers reads gives these bytes, whichever it is. */
export async function reads(head: Head, byte: number): Promise<void> {
  for (let turn = 0; turn < 6; turn++) expect((await read(head.device, 0, 4096))[0]).to.equal(byte)
}

/** What was written is marked: until the superblock of the leg was written once more. */
export async function marked(head: Head, disk: Disk, at = disk.log.length): Promise<void> {
  const slots = [0, 1].map((slot) => superblockOffset(disk.size, slot))
  const written = (): boolean =>
    disk.log.slice(at).some(({ offset, fua }) => fua && slots.includes(offset))
  await head.until('it is marked', written)
}
