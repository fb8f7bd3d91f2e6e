import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import ts from 'typescript'

/** How functions are called, and what is said of them, as CONTRIBUTING.md asks. */

const positionalMax = 4

/** Functions that run once per request, where an object of options would be made for each. */
const perRequest = new Set([
  'src/device/request.ts take',
  'src/nbd/codec.ts encodeSimpleReply',
  'src/nbd/codec.ts encodeChunk',
  'src/nbd/codec.ts encodeBlockStatus',
  'src/wire/codec.ts encodeRequest',
  'src/wire/codec.ts decodeRequest',
  'src/wire/codec.ts encodeReply',
  'src/wire/codec.ts decodeReply',
  'src/wire/codec.ts faultOf',
])
/** What it takes is what it says: `assert(condition, what)`. */
const assertions = new Set([
  'src/base/errors.ts assert',
  'src/devices/crypt/header.ts must',
  'src/devices/crypt/header.ts mustSupport',
])

type Found = (node: ts.Node, name: string) => boolean

/** The places in src where `judge` finds a fault, as `file name`. */
function faults(judge: Found): string[] {
  const names = readdirSync('src', { recursive: true, encoding: 'utf8' })
  const found: string[] = []
  for (const path of names
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join('src', name))) {
    const text = readFileSync(path, 'utf8')
    const visit = (node: ts.Node): void => {
      const named = ts.isFunctionLike(node) || ts.isClassDeclaration(node) ? node.name : undefined
      const name = `${path} ${named?.getText() ?? 'constructor'}`
      if (judge(node, name)) found.push(name)
      ts.forEachChild(node, visit)
    }
    visit(ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, true))
  }
  return found
}

describe('a function', () => {
  it(`takes at most ${positionalMax} parameters by position, but for each request`, () => {
    const long = faults(
      (node, name) =>
        ts.isFunctionLike(node) && node.parameters.length > positionalMax && !perRequest.has(name),
    )
    expect(long).to.deep.equal([])
  })

  it('takes no boolean by position, which says nothing where it is called', () => {
    const isBoolean = ({ type }: ts.ParameterDeclaration): boolean =>
      type?.kind === ts.SyntaxKind.BooleanKeyword
    const flags = faults((node, name) => {
      const declared =
        ts.isFunctionDeclaration(node) ||
        ts.isMethodDeclaration(node) ||
        ts.isConstructorDeclaration(node)
      const isFree = perRequest.has(name) || assertions.has(name)
      return declared && !isFree && node.parameters.some(isBoolean)
    })
    expect(flags).to.deep.equal([])
  })

  it('that is exported has a comment, and so has a class', () => {
    const bare = faults((node) => {
      if (!ts.isFunctionDeclaration(node) && !ts.isClassDeclaration(node)) return false
      const { modifiers = [] } = node
      const isExported = modifiers.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)
      return isExported && ts.getJSDocCommentsAndTags(node).length === 0
    })
    expect(bare).to.deep.equal([])
  })
})
