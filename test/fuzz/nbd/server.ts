import { NbdService } from '../../../src/nbd/server.ts'
import { mutated } from '../mutate.ts'
import { Served, type MemoryOf, type Serve } from '../served.ts'
import { converse } from '../serving.ts'
import type { Surface, Trial } from '../trial.ts'
import { NbdModel } from './model.ts'
import { check } from './reader.ts'
import { conversation } from './talk.ts'

/** Hostile clients of the NBD server that `serve` makes, above memory. */
export function nbdServerOf(serve: Serve, memory?: MemoryOf): Surface {
  const run = (trial: Trial): Promise<void> => carryOut(trial, new Served(trial, serve, memory))
  return { name: 'nbd-server', weight: 3, run }
}

export const nbdServer = nbdServerOf((context) => new NbdService(context))

async function carryOut({ dice }: Trial, served: Served): Promise<void> {
  await served.open()
  const { size, limits, content, context } = served
  const other = (): ReturnType<typeof conversation> => conversation(dice, size)
  const parts = mutated(conversation(dice, size), dice, other)
  const bytes = Buffer.concat(parts.map((part) => part.bytes))
  // By the rule of the server: a payload and its answer fit into what a connection may hold.
  const most = Math.min(limits.bytesPerConnection, context.admission.largest) - 512
  const payloadMax = Math.min(limits.payload, most)
  const model = new NbdModel(bytes, { size, payloadMax, content })
  await converse(served, parts, {
    closes: model.closes,
    changes: model.changes,
    content,
    check: (answers, heard) => check(answers, model, heard),
  })
  await served.close()
}
