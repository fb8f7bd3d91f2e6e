import { spawn } from 'node:child_process'
import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync } from 'node:fs'
import { readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { findProgram, mustRun } from '../support/programs.ts'

/**
 * A small virtual machine with a distribution's own Linux kernel, so that the kernel's clients can
 * attach a target under test on a host that has neither their modules nor root. Everything runs
 * from a RAM disk made of the host's packages; the network is closed but for what is forwarded.
 */

/** What the machine is made of; `needPrograms` asks for them. */
export const machinePrograms = [
  'qemu-system-x86_64',
  'apt-get',
  'apt-cache',
  'dpkg',
  'busybox',
  'cpio',
  'ldd',
  'modprobe',
  'depmod',
] as const

/** The address that stands for the host, and where its ports are found. */
export const hostAddress = '10.0.2.100'

const modules = ['virtio_pci', 'virtio_net', 'nbd', 'ext4', 'xfs', 'crc32c_generic', 'crc32c-intel']
const guestPrograms = [
  ...['nbd-client', 'mkfs.ext4', 'mkfs.xfs', 'fsck.ext4', 'xfs_repair', 'fstrim'],
  // What dst itself needs.
  'flock',
]
/** Where the guest finds this project. */
const project = 'dst'
const cache = 'node_modules/.cache/dst-vm'

export interface Boot {
  /** Run by the guest's shell; a command that fails ends it. */
  readonly script: string
  /** Ports of `hostAddress` in the guest, and the ports of 127.0.0.1 they lead to. */
  readonly forwards: ReadonlyMap<number, number>
  /** Milliseconds for all of it. */
  readonly timeout: number
  /** Whether the guest has the command `dst`: Node and what was built here. */
  readonly dst?: boolean
  /** Told of each line that the guest prints, so that the host can act in the middle. */
  readonly onLine?: (line: string) => void
}

export interface Verdict {
  readonly passed: boolean
  /** What the guest printed, the kernel's complaints included. */
  readonly console: string
}

/** Boots, runs the script and ends the machine, at the latest after the time-out. */
export async function runInMachine(boot: Boot): Promise<Verdict> {
  const kernel = await fetchKernel()
  const folder = mkdtempSync(join(tmpdir(), 'dst-vm-'))
  try {
    const initrd = await buildInitrd(kernel, folder, boot)
    return await start(kernel, initrd, boot)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

interface Kernel {
  readonly version: string
  /** A folder with `boot/` and `lib/modules/`. */
  readonly root: string
}

/** The distribution's current kernel, unpacked but not installed; kept for the next time. */
async function fetchKernel(): Promise<Kernel> {
  const depends = await mustRun('apt-cache', ['depends', 'linux-image-amd64'])
  const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1]
  if (name === undefined) throw new Error(`no kernel package in:\n${depends}`)
  const kernel = { version: name.slice('linux-image-'.length), root: join(cache, name) }
  if (existsSync(kernel.root)) return kernel
  mkdirSync(cache, { recursive: true })
  const folder = mkdtempSync(join(cache, 'new-'))
  await mustRun('apt-get', ['download', '-q', name], { cwd: folder, timeout: 180_000 })
  const [archive] = (await mustRun('ls', [folder])).trim().split('\n')
  const root = join(folder, 'root')
  await mustRun('dpkg', ['-x', join(folder, archive!), root])
  await mustRun('depmod', ['-b', root, kernel.version])
  // Complete or not there at all: whoever comes second finds it and drops his own.
  if (!existsSync(kernel.root)) renameSync(root, kernel.root)
  rmSync(folder, { recursive: true, force: true })
  return kernel
}

async function buildInitrd(kernel: Kernel, folder: string, boot: Boot): Promise<string> {
  const root = join(folder, 'root')
  for (const name of ['bin', 'proc', 'sys', 'dev', 'mnt', 'etc', 'tmp', 'lib/modules'])
    mkdirSync(join(root, name), { recursive: true })
  await addBusybox(root)
  for (const name of guestPrograms) await addProgram(root, name, findProgram(name))
  if (boot.dst === true) await addDst(root)
  const loads = await addModules(kernel, root)
  writeFileSync(join(root, 'etc/mtab'), '')
  writeFileSync(join(root, 'script'), boot.script)
  writeFileSync(join(root, 'init'), initOf(loads))
  chmodSync(join(root, 'init'), 0o755)
  // Not compressed: the emulated processor would take longer to undo it than to copy.
  const image = join(folder, 'initrd')
  const pack = 'cd "$1" && find . | cpio -o -H newc --quiet > "$2"'
  await mustRun('sh', ['-c', pack, 'sh', root, image])
  return image
}

async function addBusybox(root: string): Promise<void> {
  const busybox = findProgram('busybox')!
  copyFileSync(busybox, join(root, 'bin/busybox'))
  chmodSync(join(root, 'bin/busybox'), 0o755)
  for (const applet of (await mustRun('busybox', ['--list'])).trim().split('\n'))
    if (applet !== 'busybox' && !guestPrograms.includes(applet))
      symlinkSync('busybox', join(root, 'bin', applet))
}

/** A program and the libraries it names, at the places where it looks for them. */
async function addProgram(root: string, name: string, path: string | null): Promise<void> {
  if (path === null) return
  copyFileSync(path, join(root, 'bin', name))
  chmodSync(join(root, 'bin', name), 0o755)
  const libraries = (await mustRun('ldd', [path])).matchAll(/(?:=> )?(\/\S+) \(0x/g)
  for (const [, library] of libraries) {
    const target = join(root, library!)
    mkdirSync(dirname(target), { recursive: true })
    cpSync(library!, target, { dereference: true })
  }
}

/** This Node, what was built here, and the packages that it needs when it runs. */
async function addDst(root: string): Promise<void> {
  await addProgram(root, 'node', process.execPath)
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as Lock
  const needed = Object.entries(packages)
    .filter(([path, { dev, optional }]) => path !== '' && dev !== true && optional !== true)
    .map(([path]) => path)
  for (const path of ['package.json', 'schemas', 'dist/src', ...needed])
    cpSync(path, join(root, project, path), { recursive: true })
  const command = join(root, 'bin/dst')
  writeFileSync(command, `#!/bin/sh\nexec node /${project}/dist/src/cli/main.js "$@"\n`)
  chmodSync(command, 0o755)
}

interface Lock {
  readonly packages: Readonly<Record<string, { readonly dev?: true; readonly optional?: true }>>
}

/** Copies the modules and what they depend on. Gives their files' names in order of loading. */
async function addModules(kernel: Kernel, root: string): Promise<string[]> {
  const names: string[] = []
  for (const module of modules) {
    const args = ['-d', kernel.root, '-S', kernel.version, '--show-depends', module]
    const shown = await mustRun('modprobe', args)
    for (const [, file] of shown.matchAll(/^insmod (\S+)/gm)) {
      const name = basename(file!)
      if (names.includes(name)) continue
      copyFileSync(file!, join(root, 'lib/modules', name))
      names.push(name)
    }
  }
  return names
}

function initOf(loads: readonly string[]): string {
  return [
    '#!/bin/sh',
    'export PATH=/bin',
    'mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev',
    // Modules that are built in, or that this processor cannot use, refuse to load.
    ...loads.map((name) => `insmod /lib/modules/${name} 2>/dev/null`),
    'ip link set lo up; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0',
    `sh -e /script </dev/null && echo '${passed}' || echo '${failed}'`,
    'sync',
    'poweroff -f',
    '',
  ].join('\n')
}

const passed = 'verdict: passed'
const failed = 'verdict: failed'

function start(kernel: Kernel, initrd: string, boot: Boot): Promise<Verdict> {
  const forwards = [...boot.forwards].map(
    ([guest, host]) =>
      `guestfwd=tcp:${hostAddress}:${guest}-cmd:${findProgram('busybox')!} nc 127.0.0.1 ${host}`,
  )
  const args = ['-accel', 'tcg,thread=multi', '-cpu', 'max', '-m', '1024', '-nographic']
  // Commands start side by side: Node takes seconds for it where the processor is emulated.
  if (boot.dst === true) args.push('-smp', '2')
  args.push('-no-reboot', '-kernel', join(kernel.root, 'boot', `vmlinuz-${kernel.version}`))
  args.push('-initrd', initrd, '-append', 'console=ttyS0 panic=-1 quiet')
  args.push('-nic', ['user,model=virtio-net-pci,restrict=on', ...forwards].join(','))
  return new Promise((resolve, reject) => {
    const machine = spawn(findProgram('qemu-system-x86_64')!, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const lines: string[] = []
    const keep = (line: string): void => {
      lines.push(line.trimEnd())
      boot.onLine?.(line.trimEnd())
    }
    createInterface({ input: machine.stdout }).on('line', keep)
    createInterface({ input: machine.stderr }).on('line', keep)
    const timer = setTimeout(() => {
      lines.push(`host: no verdict after ${boot.timeout} ms`)
      machine.kill('SIGKILL')
    }, boot.timeout)
    machine.once('error', reject)
    machine.once('close', () => {
      clearTimeout(timer)
      resolve({ passed: lines.includes(passed), console: lines.join('\n') })
    })
  })
}
