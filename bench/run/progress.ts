import { describeDuration } from '../../src/base/duration.ts'

/**
 * Says what is being done now, and how long this process has run: one line that changes on a
 * terminal, a line for each step elsewhere. To standard error: standard output holds the report.
 */
export function tell(what: string): void {
  const line = `${describeDuration(process.uptime() * 1000)}: ${what}`
  const { isTTY, columns } = process.stderr
  process.stderr.write(isTTY ? `\r\u001b[K${cut(line, columns)}` : `${line}\n`)
}

/** Leaves a terminal's line to others. */
export function tellNothing(): void {
  if (process.stderr.isTTY) process.stderr.write('\r\u001b[K')
}

/** What fits on one line: of one that goes on below, only the end would be overwritten. */
export function cut(line: string, columns: number): string {
  return columns > 0 ? line.slice(0, columns - 1) : line
}
