import { expect } from 'chai'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { dst, Workshop } from '../support/process.ts'

describe('the command line', () => {
  let workshop: Workshop
  beforeEach(() => (workshop = new Workshop()))
  afterEach(() => workshop.close())

  it('explains every command with two examples and its exit codes', async () => {
    const { stdout } = await dst(['--help'], workshop.folder)
    const names = [...stdout.matchAll(/^ {2}dst (\w+) /gm)].map((found) => found[1]!)
    expect(names).to.include.members(['serve', 'check', 'list', 'status', 'bridge', 'leg'])
    const helps = await Promise.all(
      [...new Set(names)].map((name) => dst([name, '--help'], workshop.folder)),
    )
    for (const help of helps) {
      expect(help.code).to.equal(0)
      expect(help.stdout.match(/^ {2}dst /gm)?.length, help.stdout).to.be.at.least(2)
      expect(help.stdout).to.match(/Examples:/)
      expect(help.stdout).to.match(/Exit codes/)
    }
  })

  it('has every example on one line, to be copied, on a narrow terminal too', async () => {
    const words = ['bridge', 'bench', 'list', 'attach', 'status', 'verify', 'init', 'claim']
    const inner = ['leg remove', 'leg trust', 'leg add', 'volume history', 'claim reset']
    for (const name of [...words, ...inner]) {
      const { stdout } = await dst([...name.split(' '), '--help'], workshop.folder)
      const shown = stdout.slice(stdout.indexOf('Examples:')).split('\n\n')[0]!.split('\n').slice(1)
      for (const [at, line] of shown.entries())
        expect(line, stdout).to.match(at % 2 === 0 ? /^ {2}dst \w/ : /^ {6}\S/)
      // Each word of a shell is whole: as many quotation marks are opened as closed.
      for (const line of shown) expect((line.match(/"/g) ?? []).length % 2).to.equal(0)
    }
    const { stdout } = await dst(['bench', '--help'], workshop.folder)
    expect(stdout).to.include(
      '\n  dst bench --write --pattern randrw --depth 8 nbd+unix:///scratch?socket=nbd.sock\n',
    )
  })

  it('exits 2 with one line for what it does not understand', async () => {
    for (const words of [
      [],
      ['srve', 'x'],
      ['serve'],
      ['serve', 'x', '--speed', '1'],
      ['list', 'http://x'],
      ['bridge', 'dst://h/x'],
      ['attach', 'nbd://h/x', '/dev/nbd0', '--hold', '5m'],
      ['attach', 'dst://h/x', '/dev/nbd0', '--hold', 'long'],
      ['detach', '/dev/sda'],
      ['status', '--management', 'nowhere'],
      ['status', '--management', 'unix:a', '--management', 'unix:b'],
      ['leg', 'add', 'v', 'third', 'third.img', '--size', '64M'],
      ['leg', 'add', 'v', 'third', 'dst://h/x', '--size', '64M'],
      ['leg', 'add', 'v', 'third', './third.img', '--size', '64MB'],
      ['bench', 'nbd://127.0.0.1:1/x', '--pattern', 'constructor'],
      ['bench', 'nbd://127.0.0.1:1/x', '--seconds', 'long'],
      ['bench', 'nbd://127.0.0.1:1/x', '--seconds', '-1'],
      ['bench', 'nbd://127.0.0.1:1/x', '--depth', '1e12'],
    ]) {
      const { code, stderr, stdout } = await dst(words, workshop.folder)
      expect(code, words.join(' ')).to.equal(2)
      expect(stderr, words.join(' ')).to.match(/^dst: error: [^\n]+\n$/)
      expect(stdout).to.equal('')
    }
  })

  it('names the words that are missing', async () => {
    for (const [words, said] of [
      [['leg', 'add', 'home', 'third'], '<device> is missing: dst leg add <volume> <leg> <device>'],
      [['attach'], '<uri> and <device> are missing: dst attach <uri> <device>'],
      [['serve'], '<file> is missing: dst serve <file>'],
    ] as const) {
      const { code, stderr } = await dst(words, workshop.folder)
      expect([code, stderr]).to.deep.equal([2, `dst: error: ${said}\n`])
    }
  })

  it('finds the target by a variable, and says where it looked', async () => {
    const { code, stderr } = await dst(['status'], workshop.folder)
    expect(code).to.equal(4)
    expect(stderr).to.match(/data\/dst\.sock, .*--management or DST_MANAGEMENT\n$/)
    process.env['DST_MANAGEMENT'] = 'unix:elsewhere.sock'
    const named = await dst(['status'], workshop.folder)
    delete process.env['DST_MANAGEMENT']
    expect(named.stderr).to.contain('no target answers at unix:elsewhere.sock')
  })

  it('shows a stack only when asked', async () => {
    const words = ['serve', 'absent.json']
    const { stderr } = await dst(words, workshop.folder)
    expect(stderr).to.match(/^dst: error: .*no such file.*\(absent\.json\)\n$/)
    expect((await dst([...words, '--verbose'], workshop.folder)).stderr).to.match(/\n +at /)
  })

  it('checks a configuration, and prints it with its defaults', async () => {
    const file = join(workshop.folder, 'c.json')
    writeFileSync(file, JSON.stringify({ devices: { a: { type: 'memory', size: '1M' } } }))
    const right = await dst(['check', 'c.json'], workshop.folder)
    expect(right).to.include({ code: 0, stderr: '' })
    const { stdout } = await dst(['check', '--print', 'c.json'], workshop.folder)
    writeFileSync(file, stdout)
    expect((await dst(['check', '--print', 'c.json'], workshop.folder)).stdout).to.equal(stdout)
    expect((JSON.parse(stdout) as { limits: unknown }).limits).to.include({ payload: '32M' })
    writeFileSync(file, '{"devices": {"a": {"type": "mem"}}, "export": {}}')
    const wrong = await dst(['check', 'c.json'], workshop.folder)
    expect(wrong.code).to.equal(2)
    expect(wrong.stderr.match(/^dst: error: .*c\.json\)$/gm)).to.have.length(2)
  })

  it('exits 1 when nobody answers', async () => {
    const { code, stderr } = await dst(['list', 'dst://127.0.0.1:1'], workshop.folder)
    expect(code).to.equal(1)
    expect(stderr).to.match(/^dst: error: .*ECONNREFUSED.*\n$/)
  })

  it('says what attaching to the kernel needs, and how to get it', async () => {
    // A device that no machine has: something is missing everywhere.
    const { code, stderr } = await dst(['attach', 'dst://h/x', '/dev/nbd9999'], workshop.folder)
    expect(code).to.equal(1)
    expect(stderr).to.match(/^(dst: error: missing [^\n]+\n)+$/)
    expect(stderr).to.match(/"modprobe nbd|root: run it with sudo/)
    const wrong = await dst(['detach', '/dev/sda'], workshop.folder)
    expect(wrong.code).to.equal(2)
    expect(wrong.stderr).to.include('such as /dev/nbd0')
  })
})
