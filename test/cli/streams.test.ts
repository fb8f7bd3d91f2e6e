import { expect } from 'chai'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { Workshop } from '../support/process.ts'

const program = resolve('dist/src/cli/main.js')

/** Resolves once the stream has said it. */
function says(stream: Readable, what: RegExp): Promise<void> {
  let said = ''
  return new Promise((resolve) => {
    stream.on('data', (text: Buffer) => {
      said += text.toString()
      if (what.test(said)) resolve()
    })
  })
}

describe('standard output and standard error', function () {
  let workshop: Workshop
  beforeEach(() => {
    workshop = new Workshop()
    const config = { listeners: [{ protocol: 'nbd', address: 'unix:nbd.sock' }] }
    writeFileSync(join(workshop.folder, 't.json'), JSON.stringify(config))
  })
  afterEach(() => workshop.close())

  function run(args: readonly string[], stderr: 'pipe' | number = 'pipe') {
    const options = { cwd: workshop.folder, stdio: ['ignore', 'pipe', stderr] as const }
    const child: ChildProcess = spawn(process.execPath, [program, ...args], {
      ...options,
      stdio: [...options.stdio],
    })
    workshop.later(() => child.kill('SIGKILL'))
    return { child, stdout: child.stdout!, ended: once(child, 'exit') as Promise<[number | null]> }
  }

  /** Has it log a few lines, then stops it. Gives the exit code. */
  async function logAndStop(child: ChildProcess, ended: Promise<[number | null]>) {
    for (let line = 0; line < 3; line++) {
      child.kill('SIGHUP')
      await sleep(50)
    }
    child.kill('SIGTERM')
    const [code] = await ended
    return code
  }

  it('may go away: a target without a log serves on', async () => {
    const { child, stdout, ended } = run(['serve', 't.json'])
    await says(stdout, /^ready$/m)
    child.stderr!.destroy()
    expect(await logAndStop(child, ended)).to.equal(0)
  })

  it('may be on a disk that is full', async () => {
    const full = openSync('/dev/full', 'w')
    const { child, stdout, ended } = run(['serve', 't.json'], full)
    closeSync(full)
    await says(stdout, /^ready$/m)
    expect(await logAndStop(child, ended)).to.equal(0)
  })

  it('may be closed before the exports are told', async () => {
    const { child, stdout, ended } = run(['serve', 't.json'])
    stdout.destroy()
    await says(child.stderr!, /"serving"/)
    expect(await logAndStop(child, ended)).to.equal(0)
  })

  it('may be read as far as anybody wants', async () => {
    const { child, stdout, ended } = run(['check', 't.json', '--print'])
    let complaints = ''
    child.stderr!.on('data', (text: Buffer) => (complaints += text.toString()))
    stdout.destroy()
    await ended
    expect(complaints).to.equal('')
  })
})
