import fs from 'node:fs/promises'

/** The sysfs folder of the block device with this number (`st_rdev`, or `st_dev` of a file). */
export function sysfsOf(number: bigint): string {
  return `/sys/dev/block/${halvesOf(number).join(':')}`
}

/** The file's text without white space at its ends; '' if it cannot be read. */
export async function readText(path: string): Promise<string> {
  return fs.readFile(path, 'utf8').then(
    (text) => text.trim(),
    () => '',
  )
}

/** The whole number that the file holds; `otherwise` if it holds none or cannot be read. */
export async function readNumber(path: string, otherwise: number): Promise<number> {
  const text = await readText(path)
  return /^\d+$/.test(text) ? Number(text) : otherwise
}

/** Reads a number of a disk's queue; a partition has that of its disk. */
export async function queueNumber(sysfs: string, name: string, otherwise: number): Promise<number> {
  const own = await readNumber(`${sysfs}/queue/${name}`, -1)
  return own === -1 ? readNumber(`${sysfs}/../queue/${name}`, otherwise) : own
}

/** Resolves to true if the kernel refuses all writes: a switch, a read-only loop, `--setro`. */
export async function isWriteProtected(sysfs: string): Promise<boolean> {
  const partition = (await readText(`${sysfs}/partition`)) !== ''
  const switches = partition ? [`${sysfs}/ro`, `${sysfs}/../ro`] : [`${sysfs}/ro`]
  const found = await Promise.all(switches.map((path) => readText(path)))
  return found.includes('1')
}

/** Arrays and volumes on top of one another that are looked through. */
const levelsMax = 8

/**
 * Resolves to true for a disk with moving heads. The kernel says so of every disk whose driver says
 * nothing, such as virtual ones; so it is believed of SCSI and ATA disks and what is made of them.
 */
export async function rotates(sysfs: string, levels = levelsMax): Promise<boolean> {
  if ((await queueNumber(sysfs, 'rotational', 0)) !== 1 || levels === 0) return false
  const partition = (await readText(`${sysfs}/partition`)) !== ''
  const disk = partition ? `${sysfs}/..` : sysfs
  // The SCSI device type; 0 is a disk.
  if ((await readText(`${disk}/device/type`)) === '0') return true
  const below = await fs.readdir(`${disk}/slaves`).catch(() => [])
  for (const name of below) if (await rotates(`${disk}/slaves/${name}`, levels - 1)) return true
  return false
}

/** The halves of a device number of Linux, major and minor: see makedev(3). */
export function halvesOf(number: bigint): [major: bigint, minor: bigint] {
  return [
    ((number >> 8n) & 0xfffn) | ((number >> 32n) & 0xfffff000n),
    (number & 0xffn) | ((number >> 12n) & 0xffffff00n),
  ]
}
