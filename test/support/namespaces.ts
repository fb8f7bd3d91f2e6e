import type { Context } from 'mocha'
import { mustRun, needPrograms, runProgram } from './programs.ts'

/** Skips the tests of a `before` that need network namespaces where this user may make none. */
export async function needNamespaces(context: Context): Promise<void> {
  needPrograms(context, 'ip')
  const probe = `dst-probe-${process.pid}`
  const { code, stderr } = await runProgram('ip', ['netns', 'add', probe])
  if (code === 0) {
    await mustRun('ip', ['netns', 'del', probe])
    return
  }
  console.log(`      skipped: no network namespace can be made: ${stderr.trim()}`)
  context.skip()
}

/** Hosts of a network of their own: namespaces that share one switch, and reach nothing else. */
export class Namespaces {
  private readonly prefix = `dst-${process.pid}-`
  private readonly made: string[] = []

  /** Makes the switch, and for each name a host with the next address of 10.77.0.0/24. */
  async make(names: readonly string[]): Promise<void> {
    const hub = await this.add('hub')
    await this.within(hub, 'link', 'add', 'switch', 'type', 'bridge')
    await this.within(hub, 'link', 'set', 'switch', 'up')
    for (const [at, name] of names.entries()) {
      const host = await this.add(name)
      const port = `port${at}`
      const peer = ['type', 'veth', 'peer', 'name', 'eth0', 'netns', host]
      await this.within(hub, 'link', 'add', port, ...peer)
      await this.within(hub, 'link', 'set', port, 'master', 'switch', 'up')
      await this.within(host, 'addr', 'add', `${this.address(at)}/24`, 'dev', 'eth0')
      await this.within(host, 'link', 'set', 'eth0', 'up')
    }
  }

  /** The namespace of a host that `make` made. */
  of(name: string): string {
    return `${this.prefix}${name}`
  }

  /** The address of the host that was made as number `at`, from 0. */
  address(at: number): string {
    return `10.77.0.${at + 1}`
  }

  async close(): Promise<void> {
    for (const name of this.made.reverse()) await runProgram('ip', ['netns', 'del', name])
  }

  private async add(name: string): Promise<string> {
    const namespace = this.of(name)
    await mustRun('ip', ['netns', 'add', namespace])
    this.made.push(namespace)
    await this.within(namespace, 'link', 'set', 'lo', 'up')
    return namespace
  }

  private async within(namespace: string, ...args: readonly string[]): Promise<void> {
    await mustRun('ip', ['-n', namespace, ...args])
  }
}
