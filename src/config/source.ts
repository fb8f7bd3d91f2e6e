import { createScanner, parseTree, printParseErrorCode } from 'jsonc-parser'
import type { Node, ParseError } from 'jsonc-parser'
import { StorageError } from '../base/errors.ts'

/** A problem of a configuration. */
export interface Problem {
  /** A sentence that says what was found, what is allowed and what was probably meant. */
  readonly what: string
  /** JSON pointer of the place (RFC 6901); '' is the whole file. */
  readonly pointer: string
}

/** A place in a text; line and column count from 1. */
export interface Place {
  readonly line: number
  readonly column: number
}

/** A text with the places of its values. */
export interface Source {
  readonly value: unknown
  /** The place of each value (of the key, for a property), by its JSON pointer. */
  readonly places: ReadonlyMap<string, Place>
  /** A problem for each property that an object has twice: only the last would count. */
  readonly duplicates: readonly Problem[]
}

/**
 * Parses JSON with comments and trailing commas. Throws a StorageError with code CONFIG that says
 * where the text stops being JSON.
 */
export function parseSource(file: string): Source {
  // Some editors begin a file with a byte order mark.
  const text = file.replace(/^\ufeff/, '')
  if (depthOf(text) > levelsMax) throw new StorageError('CONFIG', tooDeep)
  const errors: ParseError[] = []
  const tree = parseTree(text, errors, { allowTrailingComma: true })
  const [error] = errors
  const lines = new Lines(text)
  if (error !== undefined || tree === undefined) {
    const { line, column } = lines.at(error?.offset ?? text.length)
    const what =
      error === undefined
        ? 'nothing is there'
        : (people[text[error.offset] ?? ''] ?? sentences[printParseErrorCode(error.error)])
    throw new StorageError(
      'CONFIG',
      `not JSON: ${what ?? 'it breaks off'} (line ${line}, column ${column})`,
    )
  }
  const walker = new Walker(lines)
  const value = walker.value(tree, '')
  return { value, places: walker.places, duplicates: walker.duplicates }
}

/** Advice on characters that other languages allow. */
const people: Readonly<Record<string, string>> = {
  '#': 'comments begin with //, or stand between /* and */',
  "'": 'texts stand in double quotes, as "64M"',
}

/** Sentences for the parser's codes. */
const sentences: Readonly<Record<string, string>> = {
  InvalidSymbol: 'a word that is none; texts stand in double quotes, as "64M"',
  InvalidNumberFormat: 'a number that is none; one with a unit is a text, as "64M"',
  PropertyNameExpected: 'the name of a property is missing, as "size"',
  ValueExpected: 'a value is missing, as "64M", 4096, true, { } or [ ]',
  ColonExpected: 'a colon is missing, as in "size": "64M"',
  CommaExpected: 'a comma is missing before this',
  CloseBraceExpected: 'a } is missing',
  CloseBracketExpected: 'a ] is missing',
  EndOfFileExpected: 'something follows after the end',
  UnexpectedEndOfComment: 'a comment is not closed: */ is missing',
  UnexpectedEndOfString: 'a text is not closed: " is missing',
  UnexpectedEndOfNumber: 'a number is not complete',
  InvalidUnicode: 'after \\u four hexadecimal digits follow',
  InvalidEscapeCharacter: 'no such character after a \\; a \\ itself is \\\\',
  InvalidCharacter: 'a control character in a text',
}

/** How deep brackets are nested: the parser calls itself for each. */
function depthOf(text: string): number {
  const scanner = createScanner(text, true)
  let depth = 0
  let most = 0
  for (scanner.scan(); scanner.getTokenOffset() < text.length; scanner.scan()) {
    // For a text this is its quotation mark; comments are skipped.
    const first = text[scanner.getTokenOffset()]!
    if ('{['.includes(first)) depth++
    else if ('}]'.includes(first)) depth--
    most = Math.max(most, depth)
  }
  return most
}

/** Levels of a value that recursion can walk through: more than the deepest tree has. */
const levelsMax = 400

export const tooDeep = `nested more than ${levelsMax} levels deep`

/** True if a value is nested too deep to walk through it by recursion. */
export function isTooDeep(value: unknown): boolean {
  let level: unknown[] = [value]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > levelsMax) return true
    const next: unknown[] = []
    for (const each of level)
      if (typeof each === 'object' && each !== null)
        for (const inner of Object.values(each)) next.push(inner)
    level = next
  }
  return false
}

/** Adds a step to a JSON pointer. */
export function step(pointer: string, key: string | number): string {
  return `${pointer}/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`
}

/** Lines and columns of a text. */
class Lines {
  private readonly starts: number[] = [0]

  constructor(text: string) {
    for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1))
      this.starts.push(at + 1)
  }

  at(offset: number): Place {
    let first = 0
    let beyond = this.starts.length
    while (beyond - first > 1) {
      const middle = (first + beyond) >> 1
      if (this.starts[middle]! <= offset) first = middle
      else beyond = middle
    }
    return { line: first + 1, column: offset - this.starts[first]! + 1 }
  }
}

/** Makes the values of a parsed text and notes their places. */
class Walker {
  readonly places = new Map<string, Place>()
  readonly duplicates: Problem[] = []
  private readonly lines: Lines

  constructor(lines: Lines) {
    this.lines = lines
  }

  value(node: Node, pointer: string): unknown {
    if (!this.places.has(pointer)) this.places.set(pointer, this.lines.at(node.offset))
    const { type, children = [] } = node
    if (type === 'array') return children.map((child, at) => this.value(child, step(pointer, at)))
    if (type !== 'object') return node.value as unknown
    // A property may have any name, such as __proto__.
    const seen = new Set<string>()
    return Object.fromEntries(children.map((child) => this.property(child, pointer, seen)))
  }

  private property(
    { children = [], offset }: Node,
    pointer: string,
    seen: Set<string>,
  ): readonly [string, unknown] {
    const [key, value] = children as [Node, Node]
    const name = String(key.value)
    const place = step(pointer, name)
    if (seen.has(name)) {
      const what = `"${name}" is given twice, also in line ${this.places.get(place)!.line}`
      this.duplicates.push({ what, pointer: place })
    }
    seen.add(name)
    this.places.set(place, this.lines.at(offset))
    return [name, this.value(value, place)]
  }
}
