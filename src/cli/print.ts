/**
 * Prints the output of all commands. Much of it comes from elsewhere: a remote server, a client, a
 * file. Such text must not move the cursor, change the terminal or forge lines.
 */

/** Control characters, and those that change the order or the line of what follows. */
const unprintable = /[\p{Cc}\u2028-\u202e\u2066-\u2069]/gu

/** The text on one line, with control characters escaped as in JSON: `\u001b`. */
export function printable(text: string): string {
  return text.replace(
    unprintable,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** Makes each line of a text printable. JSON keeps its meaning. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n')
}

/** Prints a text on one line of standard output. */
export function printLine(text: string): void {
  process.stdout.write(`${printable(text)}\n`)
}

/** Prints JSON; `space` is that of `JSON.stringify`. */
export function printJson(value: unknown, space = 2): void {
  process.stdout.write(`${printableLines(JSON.stringify(value, null, space))}\n`)
}

/** Prints an error on standard error. */
export function printError(text: string): void {
  process.stderr.write(`dst: error: ${printable(text)}\n`)
}

/** Prints a warning on standard error. */
export function printWarning(text: string): void {
  process.stderr.write(`dst: warning: ${printable(text)}\n`)
}
