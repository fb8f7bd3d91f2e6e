/**
 * Fields of a log line. An error goes under `err`, the key whose text, code and device are written
 * out; `error` may hold a text only, so that the compiler refuses an error under that key.
 */
export interface LogFields {
  readonly err?: unknown
  readonly error?: string
  readonly [name: string]: unknown
}

/** The part of a bunyan logger that rooms below `daemon` use. Never called per request. */
export interface Log {
  debug(fields: LogFields, message: string): void
  info(fields: LogFields, message: string): void
  warn(fields: LogFields, message: string): void
  error(fields: LogFields, message: string): void
}

const nothing = (): void => undefined

/** Drops every line: for tests and for callers without a log. */
export const silentLog: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing }
