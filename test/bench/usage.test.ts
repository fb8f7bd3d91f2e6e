import { expect } from 'chai'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { access } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { cleanUp, trackFolder } from '../../bench/servers/cleanup.ts'
import { isAlive, usageOf } from '../../bench/servers/proc.ts'
import { Process } from '../../bench/servers/process.ts'

/** Has a child burn some processor time, says so when it has ended, and waits for more to do. */
const burning = `
read -r go
(n=0; while [ $n -lt 300000 ]; do n=$((n+1)); done)
echo burnt
read -r end
`

describe('the processor time of a server', () => {
  it('holds that of children that have ended', async function () {
    const child = spawn('sh', ['-c', burning], { stdio: ['pipe', 'pipe', 'inherit'] })
    const before = usageOf(child.pid!)
    child.stdin.write('go\n')
    await once(child.stdout, 'data')
    const after = usageOf(child.pid!)
    child.stdin.end()
    await once(child, 'exit')
    const all = after.cpuNanoseconds - before.cpuNanoseconds
    expect(all).to.be.above(20e6)
    expect(after.threadNanoseconds - before.threadNanoseconds).to.be.within(all / 2, all * 2)
  })
})

describe('a server that does not want to end', () => {
  let folder: string
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'dst-test-'))))
  afterEach(() => {
    rmSync(folder, { recursive: true })
  })

  it('is killed with all that it has started', async () => {
    const pidFile = join(folder, 'child')
    const script = `
      trap '' TERM
      sleep 1000 & echo $! > ${pidFile}.new; mv ${pidFile}.new ${pidFile}
      while :; do wait; done`
    const server = new Process(['sh', '-c', script], 50)
    await server.listening(() => access(pidFile))
    const child = Number(readFileSync(pidFile, 'utf8'))
    await server.stop()
    while (isAlive(child)) await new Promise((resolve) => setImmediate(resolve))
  })

  it('is killed at the end of a run also when it has gone to the background', async () => {
    const own = join(folder, 'own')
    mkdirSync(own)
    trackFolder(own)
    const words = ['-c', `sh -c 'sleep 1000; :' ${own} >/dev/null 2>&1 & echo $!`]
    const pid = Number(execFileSync('sh', words, { encoding: 'utf8' }))
    expect(isAlive(pid)).to.equal(true)
    cleanUp()
    expect(existsSync(own)).to.equal(false)
    while (isAlive(pid)) await new Promise((resolve) => setImmediate(resolve))
  })
})
