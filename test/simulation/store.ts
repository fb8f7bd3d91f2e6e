import { StorageError } from '../../src/base/errors.ts'
import type { StateStore } from '../../src/base/store.ts'
import type { Machine, Process } from './machine.ts'

/** Milliseconds of one save: a file written, renamed and its folder flushed. */
const saveMs: readonly [number, number] = [0.1, 3]

/** The state directory of a head's machine; it outlives processes and power. */
export class StateDirectory {
  readonly texts = new Map<string, string>()
  /** Saves fail while set. */
  failing = false

  /** The directory as one process sees it. */
  open(process: Process): StateStore {
    return new ProcessStore(this, process)
  }
}

class ProcessStore implements StateStore {
  private readonly directory: StateDirectory
  private readonly process: Process

  constructor(directory: StateDirectory, process: Process) {
    this.directory = directory
    this.process = process
  }

  load(key: string): Promise<string | null> {
    return Promise.resolve(this.directory.texts.get(key) ?? null)
  }

  save(key: string, text: string): Promise<void> {
    const { directory, process } = this
    const { clock, dice }: Machine = process.machine
    const total = dice.skewed(...saveMs)
    return new Promise((resolve, reject) => {
      // Somewhere on the way it is there; killed before that, it is not.
      let saved = false
      clock.after(dice.between(0, total), process, () => {
        saved = !directory.failing
        if (saved) directory.texts.set(key, text)
      })
      clock.after(total, process, () => {
        if (saved) resolve()
        else reject(new StorageError('IO', 'the state directory cannot be written'))
      })
    })
  }
}
