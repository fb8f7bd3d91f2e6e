import { StorageError } from '../base/errors.ts'

/** Something wrong with a configuration. */
export interface Problem {
  /** A sentence: what was found, what is allowed, what was probably meant. */
  readonly what: string
  /** JSON pointer of the place (RFC 6901); '' is the whole file. */
  readonly pointer: string
}

/** A JSON text with the places of its values. */
export interface Source {
  readonly value: unknown
  /** The line, from 1, where the value (the key, for a property) of a JSON pointer stands. */
  readonly lines: ReadonlyMap<string, number>
  /** Properties that appear twice in one object: only the last would count. */
  readonly duplicates: readonly Problem[]
}

/** Reads a JSON text. A StorageError with code CONFIG says where it stops being JSON. */
export function parseSource(file: string): Source {
  // A byte order mark is what some editors begin with: it says nothing.
  const text = file.replace(/^\ufeff/, '')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new StorageError('CONFIG', `not JSON: ${placed(text, error as Error)}`)
  }
  if (isTooDeep(value)) throw new StorageError('CONFIG', tooDeep)
  const scanner = new Scanner(text)
  scanner.value('')
  return { value, lines: scanner.lines, duplicates: scanner.duplicates }
}

/** Levels of a value that can be walked through: more than the deepest tree of devices has. */
const levelsMax = 400

export const tooDeep = `nested more than ${levelsMax} levels deep`

/** Whether a value is nested so deep that nobody may walk through it by recursion. */
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

/** One more step of a JSON pointer. */
export function step(pointer: string, key: string | number): string {
  return `${pointer}/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`
}

/** The engine's sentence, with a line and a column, which it does not always know. */
function placed(text: string, error: Error): string {
  const before = text.slice(0, firstWrong(text)).split('\n')
  const what = error.message.replace(
    /,? (in JSON )?at position.*|, (\.\.\.)?".*is not valid JSON/s,
    '',
  )
  return `${what} (line ${before.length}, column ${before.at(-1)!.length + 1})`
}

/** Index of the first character that no JSON text has there; the length if more is missing. */
function firstWrong(text: string): number {
  let possible = 0
  let wrong = text.length + 1
  while (wrong - possible > 1) {
    const middle = (possible + wrong) >> 1
    if (mayContinue(text.slice(0, middle))) possible = middle
    else wrong = middle
  }
  return possible
}

/** Whether more characters could make a JSON text of this one. */
function mayContinue(prefix: string): boolean {
  try {
    JSON.parse(prefix)
    return true
  } catch (error) {
    const { message } = error as Error
    const position = /at position (\d+)/.exec(message)
    if (position === null) return message.includes('end of JSON')
    return Number(position[1]) >= prefix.length || message.startsWith('Unterminated string')
  }
}

/** Walks a text that is known to be JSON. */
class Scanner {
  readonly lines = new Map<string, number>()
  readonly duplicates: Problem[] = []
  private readonly text: string
  private at = 0
  private line = 1

  constructor(text: string) {
    this.text = text
  }

  value(pointer: string): void {
    this.space()
    if (!this.lines.has(pointer)) this.lines.set(pointer, this.line)
    const first = this.text[this.at]
    if (first === '{') this.object(pointer)
    else if (first === '[') this.array(pointer)
    else if (first === '"') this.string()
    else while (/[^\s,\]}]/.test(this.text[this.at] ?? ' ')) this.at++
  }

  private object(pointer: string): void {
    const seen = new Set<string>()
    this.open()
    while (this.text[this.at] !== '}') {
      const { line } = this
      const key = this.string()
      const place = step(pointer, key)
      if (seen.has(key))
        this.duplicates.push({
          what: `"${key}" is given twice, also in line ${this.lines.get(place)!}`,
          pointer: place,
        })
      seen.add(key)
      this.lines.set(place, line)
      this.space()
      this.at++
      this.value(place)
      this.separator()
    }
    this.at++
  }

  private array(pointer: string): void {
    let index = 0
    this.open()
    while (this.text[this.at] !== ']') {
      this.value(step(pointer, index++))
      this.separator()
    }
    this.at++
  }

  /** Steps over a bracket, to the first item or the closing bracket. */
  private open(): void {
    this.at++
    this.space()
  }

  /** Steps over white space and at most one comma. */
  private separator(): void {
    this.space()
    if (this.text[this.at] === ',') this.at++
    this.space()
  }

  private string(): string {
    const start = this.at++
    while (this.text[this.at] !== '"') this.at += this.text[this.at] === '\\' ? 2 : 1
    this.at++
    return JSON.parse(this.text.slice(start, this.at)) as string
  }

  private space(): void {
    for (; /\s/.test(this.text[this.at] ?? ''); this.at++)
      if (this.text[this.at] === '\n') this.line++
  }
}
