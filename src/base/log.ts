/** The part of a bunyan logger that rooms below `target` use. Never called per request. */
export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

const nothing = (): void => undefined

/** Drops everything: for tests and for callers that have nobody to tell. */
export const silentLog: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing }
