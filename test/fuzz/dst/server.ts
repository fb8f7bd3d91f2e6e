import { blockBytesMax } from '../../../src/base/slab.ts'
import { DstService } from '../../../src/wire/server.ts'
import { mutated } from '../mutate.ts'
import { Served } from '../served.ts'
import { converse } from '../serving.ts'
import type { Surface, Trial } from '../trial.ts'
import { DstModel } from './model.ts'
import { check } from './reader.ts'
import { conversation } from './talk.ts'

/** Hostile clients of the DST/1 server. */
export const dstServer: Surface = {
  name: 'dst-server',
  weight: 3,
  async run(trial: Trial): Promise<void> {
    const { dice } = trial
    const served = new Served(trial, (context) => new DstService(context))
    await served.open()
    const { size, limits, content, context } = served
    const other = (): ReturnType<typeof conversation> => conversation(dice, size)
    const parts = mutated(conversation(dice, size), dice, other)
    const bytes = Buffer.concat(parts.map((part) => part.bytes))
    // By the rule of the server: a payload and its answer fit into what all may hold.
    const most = context.admission.largest - 1024 - 64
    const payloadMax = Math.min(limits.payload, most, blockBytesMax)
    const model = new DstModel(bytes, { size, payloadMax, content })
    await converse(served, parts, {
      closes: model.closes,
      mayClose: model.mayClose,
      changes: model.changes,
      content,
      check: (answers, heard) => check(answers, model, heard),
    })
    await served.close()
  },
}
