import { StorageError } from '../../src/base/errors.ts'
import type { StateStore } from '../../src/base/store.ts'
import type { Machine, Process } from './machine.ts'
import { MemoryStore } from '../support/memory-store.ts'

/** Milliseconds of one save: a file written, renamed and its folder flushed. */
const saveMs: readonly [number, number] = [0.1, 3]

/** A save that hangs: how it goes on, and how it is never heard of again. */
interface Hanging {
  readonly write: () => void
  readonly forget: () => void
}

interface Save {
  readonly key: string
  readonly text: string
  readonly resolve: () => void
  readonly reject: (error: StorageError) => void
}

/** The state directory of a head's machine; it outlives processes and power. */
export class StateDirectory {
  readonly texts = new Map<string, string>()
  /** What outlives processes without it: its machine's memory. */
  readonly spare = new MemoryStore()
  /** Told of a save that begins, and with `done` of one that is there. */
  watched: (done: boolean) => void = () => undefined
  /** Saves fail while set. */
  failing = false
  /** How many times as long as usual a save takes. */
  slowness = 1
  /** While true no save that begins comes to an end. */
  hung = false
  private readonly hanging: Hanging[] = []

  /** The directory as one process sees it. */
  open(process: Process): StateStore {
    return new ProcessStore(this, process)
  }

  /** Keeps a save for as long as the directory hangs. */
  hang(save: Hanging): void {
    this.hanging.push(save)
  }

  /** Saves work again. Those that hang go on, or with `forgotten` never end. */
  unhang(forgotten: boolean): void {
    this.hung = false
    const hanging = this.hanging.splice(0)
    for (const { write, forget } of hanging) (forgotten ? forget : write)()
  }
}

class ProcessStore implements StateStore {
  private readonly directory: StateDirectory
  private readonly process: Process
  /** Saves that wait for one of the same key, each key's first being the one under way. */
  private readonly queues = new Map<string, Save[]>()

  constructor(directory: StateDirectory, process: Process) {
    this.directory = directory
    this.process = process
  }

  load(key: string): Promise<string | null> {
    return Promise.resolve(this.directory.texts.get(key) ?? null)
  }

  setAside(key: string): Promise<string> {
    const text = this.directory.texts.get(key)
    if (text !== undefined) this.directory.texts.set(`${key}.damaged`, text)
    return Promise.resolve(text === undefined ? '' : `${key}.damaged`)
  }

  /** Saves of one key end in order. */
  save(key: string, text: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const queue = this.queues.get(key) ?? []
      this.queues.set(key, queue)
      queue.push({ key, text, resolve, reject })
      if (queue.length === 1) this.begin(queue)
    })
  }

  private begin(queue: Save[]): void {
    const save = queue[0]
    if (save === undefined) return
    const write = (): void => {
      this.write(save, queue)
    }
    // One that never ends keeps no other from being tried.
    const forget = (): void => {
      queue.shift()
      this.begin(queue)
    }
    if (this.directory.hung) this.directory.hang({ write, forget })
    else write()
  }

  private write({ key, text, resolve, reject }: Save, queue: Save[]): void {
    const { directory, process } = this
    const { clock, dice }: Machine = process.machine
    const total = dice.skewed(...saveMs) * directory.slowness
    directory.watched(false)
    // Somewhere on the way it is there; killed before that, it is not.
    const effect = dice.between(0, total)
    clock.after(effect, process, () => {
      const saved = !directory.failing
      if (saved) directory.texts.set(key, text)
      directory.watched(true)
      clock.after(total - effect, process, () => {
        queue.shift()
        if (saved) resolve()
        else reject(new StorageError('IO', 'the state directory cannot be written'))
        this.begin(queue)
      })
    })
  }
}
