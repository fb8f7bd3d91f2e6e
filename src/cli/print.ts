/**
 * Everything that commands print goes through here. Much of it was said by somebody else: a remote
 * server, a client, a file. None of that is to move the cursor, change the terminal or forge lines.
 */

/** Control characters, and those that change the order or the line of what follows. */
const unprintable = /[\p{Cc}\u2028-\u202e\u2066-\u2069]/gu

/** The text on one line, with such characters as JSON has them: `\u001b`. */
export function printable(text: string): string {
  return text.replace(
    unprintable,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** `printable` for each line. JSON that went through it means what it did before. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n')
}

export function printLine(text: string): void {
  process.stdout.write(`${printable(text)}\n`)
}

/** `space` as for `JSON.stringify`. */
export function printJson(value: unknown, space = 2): void {
  process.stdout.write(`${printableLines(JSON.stringify(value, null, space))}\n`)
}

export function printError(text: string): void {
  process.stderr.write(`dst: error: ${printable(text)}\n`)
}

export function printWarning(text: string): void {
  process.stderr.write(`dst: warning: ${printable(text)}\n`)
}
