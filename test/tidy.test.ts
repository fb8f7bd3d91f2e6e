import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { expect } from 'chai'
import ts from 'typescript'

/** The rules of the house, as CONTRIBUTING.md gives them. Each test lists every place at fault. */

const linesMax = 450
const columnsMax = 100
const functionLinesMax = 70

/** What each room may import from, besides itself. */
const protocols = ['base', 'device', 'net', 'export', 'peer']
const daemon = [...protocols, 'devices', 'wire', 'nbd', 'mirror', 'config']
const rooms: Readonly<Record<string, readonly string[]>> = {
  base: [],
  device: ['base'],
  devices: ['base', 'device'],
  net: ['base', 'device'],
  export: ['base', 'device', 'net'],
  peer: ['base', 'device', 'net'],
  wire: protocols,
  nbd: protocols,
  mirror: ['base', 'device'],
  config: ['base', 'net', 'export'],
  daemon,
  manage: [...daemon, 'daemon'],
  cli: [...daemon, 'daemon', 'manage'],
}

/**
 * Where files may name each other's types in a circle. The shell and the data path of a mirror are
 * one machine around one `Volume`: they name its type, and it names theirs.
 */
const circlesOfTypes = /^src\/mirror\//

/**
 * Where files may call each other in a circle. The rules of a mirror call each other through one
 * table, in which the explorer and the simulation replace any of them by a defect.
 */
const circlesOfValues = /^src\/mirror\/rules\//

/** Made by a program, hence not to be judged by how it looks. */
const generated = new Set(['src/config/config.types.ts', 'src/manage/status.types.ts'])

interface Source {
  readonly path: string
  readonly lines: readonly string[]
  readonly tree: ts.SourceFile
}

const sources = ['src', 'test', 'bench', 'schemas']
  .flatMap((folder) => filesUnder(folder))
  .map(parse)
const written = sources.filter(({ path }) => !generated.has(path))

function filesUnder(folder: string, ending = '.ts'): string[] {
  if (!existsSync(folder)) return []
  const entries = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  return entries.filter((name) => name.endsWith(ending)).map((name) => join(folder, name))
}

function parse(path: string): Source {
  const text = readFileSync(path, 'utf8')
  const tree = ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, true)
  return { path, lines: text.split('\n'), tree }
}

function lineOf(source: Source, node: ts.Node): number {
  return source.tree.getLineAndCharacterOfPosition(node.getStart()).line + 1
}

/** Every place where `judge` has something to say, as `file:line what`. */
function faults(
  of: readonly Source[],
  judge: (node: ts.Node, source: Source) => string | null,
): string[] {
  const found: string[] = []
  for (const source of of) {
    const visit = (node: ts.Node): void => {
      const fault = judge(node, source)
      if (fault !== null) found.push(`${source.path}:${lineOf(source, node)} ${fault}`)
      ts.forEachChild(node, visit)
    }
    visit(source.tree)
  }
  return found
}

function faultyLines(of: readonly Source[], judge: (line: string) => string | null): string[] {
  return of.flatMap(({ path, lines }) =>
    lines.flatMap((line, at) => {
      const fault = judge(line)
      return fault === null ? [] : [`${path}:${at + 1} ${fault}`]
    }),
  )
}

/** The module a node imports or exports from, as it is written; null for any other node. */
function importOf(node: ts.Node): string | null {
  if (!ts.isImportDeclaration(node) && !ts.isExportDeclaration(node)) return null
  const { moduleSpecifier: module } = node
  return module !== undefined && ts.isStringLiteral(module) ? module.text : null
}

/** Whether all that it imports or exports again is gone when the program runs. */
function isOfTypes(node: ts.Node): boolean {
  if (ts.isExportDeclaration(node)) return node.isTypeOnly
  const clause = ts.isImportDeclaration(node) ? node.importClause : undefined
  if (clause === undefined) return false
  const { phaseModifier, namedBindings: names } = clause
  if (phaseModifier === ts.SyntaxKind.TypeKeyword) return true
  const isNamed = names !== undefined && ts.isNamedImports(names)
  return isNamed && names.elements.every(({ isTypeOnly }) => isTypeOnly)
}

/** The files of the project that it imports: those for their types too, or for values alone. */
function importsOf({ path, tree }: Source, what: 'all' | 'values'): string[] {
  return tree.statements
    .filter((node) => what === 'all' || !isOfTypes(node))
    .map((node) => importOf(node))
    .filter((module) => module?.startsWith('.') === true)
    .map((module) => relative('.', resolve(dirname(path), module!)))
}

/**
 * The files that import each other in a circle, and those between circles; without the arrows from
 * one of the files where circles are allowed to another one.
 */
function circlesOf(what: 'all' | 'values', allowed: RegExp): string[] {
  const arrows = new Map(
    sources
      .filter(({ path }) => path.startsWith('src/'))
      .map((source) => {
        const isJudged = (to: string): boolean => !allowed.test(source.path) || !allowed.test(to)
        return [source.path, importsOf(source, what).filter(isJudged)] as const
      }),
  )
  // What imports nothing that is left is no part of a circle, and is left out in turn.
  for (let before = Infinity; arrows.size < before;) {
    before = arrows.size
    for (const [path, imports] of arrows)
      if (!imports.some((each) => arrows.has(each))) arrows.delete(path)
  }
  return [...arrows.keys()]
}

/** `describe` and a suite's function hold other functions: a screen each is asked of those. */
function holdsTests(node: ts.Node): boolean {
  const { parent } = node
  return (
    ts.isCallExpression(parent) &&
    ts.isIdentifier(parent.expression) &&
    parent.expression.text === 'describe'
  )
}

describe('the house', () => {
  it(`has lines of at most ${columnsMax} columns`, () => {
    const long = faultyLines(written, (line) =>
      line.length > columnsMax ? `has ${line.length} columns` : null,
    )
    expect(long).to.deep.equal([])
  })

  it(`has files of at most ${linesMax} lines`, () => {
    const long = written
      .filter(({ lines }) => lines.length - 1 > linesMax)
      .map(({ path, lines }) => `${path} has ${lines.length - 1} lines`)
    expect(long).to.deep.equal([])
  })

  it(`has functions of at most ${functionLinesMax} lines`, () => {
    const long = faults(written, (node, source) => {
      if (!ts.isFunctionLike(node) || holdsTests(node)) return null
      const first = lineOf(source, node)
      const last = source.tree.getLineAndCharacterOfPosition(node.getEnd()).line + 1
      const lines = last - first + 1
      return lines > functionLinesMax ? `is a function of ${lines} lines` : null
    })
    expect(long).to.deep.equal([])
  })

  it('has rooms that import from the rooms below them only', () => {
    const upward = faults(
      sources.filter(({ path }) => path.startsWith('src/')),
      (node, { path }) => {
        const module = importOf(node)
        if (module?.startsWith('.') !== true) return null
        const [from] = relative('src', path).split('/')
        const [to] = relative('src', resolve(dirname(path), module)).split('/')
        if (from === to) return null
        return rooms[from!]?.includes(to!) === true ? null : `imports ${module}`
      },
    )
    expect(upward).to.deep.equal([])
  })

  it('has no circle of imports', () => {
    expect(circlesOf('all', circlesOfTypes)).to.deep.equal([])
    expect(circlesOf('values', circlesOfValues)).to.deep.equal([])
  })

  it('has no room that the plan does not know', () => {
    const known = Object.keys(rooms)
    const unknown = sources
      .map(({ path }) => path.split('/'))
      .filter(([top, room]) => top === 'src' && !known.includes(room!))
    expect(unknown.map((path) => path.join('/'))).to.deep.equal([])
  })

  it('leaves nothing to do and nothing silenced', () => {
    const words = ['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'ts-' + 'nocheck', 'eslint-' + 'disable']
    const open = faultyLines(written, (line) => words.find((word) => line.includes(word)) ?? null)
    expect(open).to.deep.equal([])
  })

  it('runs every test: none is exclusive, none skipped without asking', () => {
    const marked = faults(written, (node) =>
      ts.isPropertyAccessExpression(node) &&
      /^(it|describe)$/.test(node.expression.getText()) &&
      /^(only|skip)$/.test(node.name.text)
        ? `has ${node.getText()}`
        : null,
    )
    expect(marked).to.deep.equal([])
  })

  it('takes time, chance and sockets from outside, below the daemon', () => {
    const allowed = [
      'src/base/clock.ts',
      'src/base/random.ts',
      'src/net/sockets.ts',
      'src/net/connection.ts',
    ]
    const inner = written.filter(
      ({ path }) =>
        /^src\/(base|devices?|net|export|peer|wire|nbd|mirror)\//.test(path) &&
        !allowed.includes(path),
    )
    const ambient =
      /\b(Date\.now|Math\.random|setTimeout|setInterval|setImmediate|performance\.now)\b/
    const taken = faultyLines(inner, (line) =>
      /^\s*(\/\/|\*|\/\*)/.test(line) ? null : (ambient.exec(line)?.[0] ?? null),
    )
    expect(taken).to.deep.equal([])
  })

  it('has no field in the mirror that another file than its own writes', () => {
    expect(writtenElsewhere('src/mirror')).to.deep.equal([])
  })

  it('has a schema entry, a page and a conformance run for every kind of device', () => {
    const kinds = deviceKinds()
    const tested = conformanceText()
    const missing = kinds.flatMap(({ type, driver, path }) => [
      ...(configurable().includes(type) ? [] : [`${path} ${type} is not in the schema`]),
      ...(existsSync(`docs/devices/${type}.md`) ? [] : [`${path} ${type} has no page`]),
      ...(tested.includes(`new ${driver}(`) ? [] : [`${path} ${driver} has no conformance run`]),
    ])
    expect(missing).to.deep.equal([])
  })

  it('has no dead link in its documents', () => {
    const documents = ['README.md', 'CONTRIBUTING.md', ...filesUnder('docs', '.md')]
    const dead = documents.flatMap((path) =>
      Array.from(
        readFileSync(path, 'utf8').matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g),
        ([, to]) => to!,
      )
        .filter((to) => !existsSync(join(dirname(path), to)))
        .map((to) => `${path} links to ${to}`),
    )
    expect(dead).to.deep.equal([])
  })
})

/**
 * Files of a room whose fields are plain data that others change: the record of a volume, which is
 * saved as it is, and the run of the rules, which is theirs.
 */
const plainData: ReadonlyMap<string, string> = new Map([
  ['src/mirror/record.ts', 'src/mirror/'],
  ['src/mirror/rules/run.ts', 'src/mirror/rules/'],
])

/** Where a room assigns to a field that another of its files declares. */
function writtenElsewhere(room: string): string[] {
  const read = ts.readConfigFile('tsconfig.json', (path) => ts.sys.readFile(path))
  const { options } = ts.parseJsonConfigFileContent(read.config, ts.sys, '.')
  const paths = filesUnder(room)
  const program = ts.createProgram(paths, options)
  const checker = program.getTypeChecker()
  const parsed = paths.map((path): Source => {
    const tree = program.getSourceFile(path)!
    return { path, lines: [], tree }
  })
  return faults(parsed, (node, { path }) => {
    const target = assignedTo(node)
    if (target === null || target.expression.kind === ts.SyntaxKind.ThisKeyword) return null
    const places = checker.getSymbolAtLocation(target.name)?.declarations ?? []
    const owners = places.map((place) => relative('.', place.getSourceFile().fileName))
    const isOurs = (owner: string): boolean =>
      owner === path || !owner.startsWith(`${room}/`) || mayWrite(path, owner)
    return owners.every(isOurs) ? null : `writes ${target.getText()} of ${owners.join()}`
  })
}

function mayWrite(path: string, owner: string): boolean {
  const whose = plainData.get(owner)
  return whose !== undefined && path.startsWith(whose)
}

/** The field that the node assigns to, counts up or deletes; null if it does not. */
function assignedTo(node: ts.Node): ts.PropertyAccessExpression | null {
  const { FirstAssignment, LastAssignment, PlusPlusToken, MinusMinusToken } = ts.SyntaxKind
  let target: ts.Node | null = null
  if (ts.isBinaryExpression(node)) {
    const { kind } = node.operatorToken
    if (kind >= FirstAssignment && kind <= LastAssignment) target = node.left
  } else if (ts.isPrefixUnaryExpression(node) || ts.isPostfixUnaryExpression(node)) {
    const counts = node.operator === PlusPlusToken || node.operator === MinusMinusToken
    if (counts) target = node.operand
  } else if (ts.isDeleteExpression(node)) target = node.expression
  return target !== null && ts.isPropertyAccessExpression(target) ? target : null
}

interface Kind {
  readonly type: string
  readonly driver: string
  readonly path: string
}

/** The classes that say `readonly type = '…'` and submit requests: the drivers. */
function deviceKinds(): Kind[] {
  const kinds: Kind[] = []
  for (const { path, tree } of sources)
    ts.forEachChild(tree, (node) => {
      if (!path.startsWith('src/') || !ts.isClassDeclaration(node)) return
      const member = node.members.find(({ name }) => name?.getText() === 'type')
      const value = member !== undefined && ts.isPropertyDeclaration(member) && member.initializer
      if (value && ts.isStringLiteral(value))
        kinds.push({ type: value.text, driver: node.name!.text, path })
    })
  return kinds
}

/** The suites that hold devices against the contract, with the helpers that they import. */
function conformanceText(): string {
  const suites = sources.filter(
    ({ path, lines }) =>
      path.startsWith('test/') && lines.some((line) => /conformance\(/.test(line)),
  )
  const helpers = suites
    .flatMap((source) => importsOf(source, 'all'))
    .filter((module) => module.startsWith('test/'))
  const text = sources.filter((source) => suites.includes(source) || helpers.includes(source.path))
  return text.flatMap(({ lines }) => lines).join('\n')
}

/** The types of device that the configuration's schema knows. */
function configurable(): readonly string[] {
  interface Schema {
    readonly $defs: { readonly device: { properties: { type: { enum: readonly string[] } } } }
  }
  const schema = JSON.parse(readFileSync('schemas/config.schema.json', 'utf8')) as Schema
  return schema.$defs.device.properties.type.enum
}
