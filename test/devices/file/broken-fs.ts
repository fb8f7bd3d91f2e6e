import nodeFs from 'node:fs'

/** Runs `body` with functions of node:fs replaced. */
export async function withFs(
  replaced: Partial<typeof nodeFs>,
  body: () => Promise<void>,
): Promise<void> {
  const original: Partial<typeof nodeFs> = {}
  for (const name of Object.keys(replaced) as 'read'[]) original[name] = nodeFs[name]
  Object.assign(nodeFs, replaced)
  try {
    await body()
  } finally {
    Object.assign(nodeFs, original)
  }
}

/** A function of node:fs that only calls its callback, the last argument, with an error. */
export function failing(code: string): never {
  return ((...args: unknown[]) => {
    const callback = args.at(-1) as (error: Error, bytes: number) => void
    setImmediate(callback, Object.assign(new Error(`${code}: on purpose`), { code }), 0)
  }) as never
}

/** The same for a function that throws. */
export function throwing(code: string): never {
  return (() => {
    throw Object.assign(new Error(`${code}: on purpose`), { code })
  }) as never
}

/** What it failed with, or that it did not. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'success',
    (error: unknown) => (error as { code: string }).code,
  )
}
