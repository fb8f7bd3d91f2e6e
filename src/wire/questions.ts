import { StorageError, systemError } from '../base/errors.ts'
import { encodeClaimed } from '../export/claims.ts'
import { Command } from './codec.ts'
import type { Session, Sessions } from './session.ts'
import { statusOf, statusOk } from './status.ts'

/** True for a command that is no request of a range; such questions are answered with a text. */
export function isQuestion(command: number): boolean {
  return command === Command.stamp || command === Command.claim || command === Command.claimed
}

/** The answer to a question. */
export interface Told {
  readonly status: number
  readonly text: string
}

/** Answers a question of a client; never rejects. `fence` is the number of a claim. */
export async function ask(
  sessions: Sessions,
  session: Session,
  command: number,
  fence: number,
): Promise<Told> {
  try {
    return { status: statusOk, text: await answerTo(sessions, session, command, fence) }
  } catch (error) {
    const { code, message } = systemError(error, 'asking the device')
    return { status: statusOf(code), text: message }
  }
}

async function answerTo(
  sessions: Sessions,
  session: Session,
  command: number,
  fence: number,
): Promise<string> {
  const { driver, path } = session.target.device
  if (command === Command.claimed) return encodeClaimed(await sessions.claimed(session))
  if (command === Command.claim) {
    if (Number.isNaN(fence)) throw new StorageError('INVALID', 'a fence number beyond 2^53')
    await sessions.claim(session, fence)
    return ''
  }
  if (driver.stamp === undefined) throw new StorageError('UNSUPPORTED', 'no stamp', path)
  return driver.stamp()
}
