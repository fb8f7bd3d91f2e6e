import { relative } from 'node:path'
import Mocha from 'mocha'
import { HandleWatch } from './handles.ts'
import { killDescendants } from './descendants.ts'
import { estimatedSeconds } from './files.ts'

// Stack traces name the lines of the sources. As an option of Node it would cost a process between
// the terminal and the tests, which dies of an interrupt before they can say what ran.
process.setSourceMapsEnabled(true)

/** Milliseconds that a run may go on after its summary: with failures, and without. */
const lingerMs = { failed: 3_000, passed: 60_000 }
/** The same for the tests of this. */
const lingerMsOfTest = process.env['DST_TEST_LINGER_MS']
/** A run that is shorter than this needs no announcement. */
const announcedSecondsMin = 20

/**
 * Mocha's `spec`, which also says how long a run will take, gives its summary on an interrupt, and
 * ends the run when something is left open after the summary. That is named, and is a failure.
 */
export default class SessionReporter extends Mocha.reporters.Spec {
  private readonly started: Mocha.Runner
  private readonly handles = new HandleWatch()
  private running: Mocha.Runnable | null = null
  private finished = 0

  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions) {
    super(runner, options)
    this.started = runner
    const { constants } = Mocha.Runner
    const interrupted = (): void => this.interrupted()
    runner.once(constants.EVENT_RUN_BEGIN, () => {
      for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, interrupted)
      this.announce()
    })
    runner.on(constants.EVENT_HOOK_BEGIN, (hook) => (this.running = hook))
    runner.on(constants.EVENT_TEST_BEGIN, (test) => (this.running = test))
    runner.on(constants.EVENT_TEST_END, (test) => {
      this.finished++
      this.handles.attribute(test.fullTitle())
    })
    runner.once(constants.EVENT_RUN_END, () => {
      for (const signal of ['SIGINT', 'SIGTERM']) process.removeListener(signal, interrupted)
      this.awaitEnd()
    })
  }

  private announce(): void {
    const suites = this.started.suite.suites
    const files = new Set(suites.flatMap(({ file }) => (file === undefined ? [] : [file])))
    const seconds = estimatedSeconds([...files].map((file) => relative('.', file)))
    if (seconds < announcedSecondsMin) return
    const long = seconds < 100 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} minutes`
    console.log(
      `\n  ${this.started.total} tests in ${files.size} files: about ${long} on two quiet cores;` +
        '\n  an interrupt ends them with a summary.',
    )
  }

  /** Ends the run now: what waits for a test would wait as long as the test may take. */
  private interrupted(): void {
    const { stats } = this
    stats.duration = Date.now() - (stats.start ?? new Date()).getTime()
    this.epilogue()
    const { total } = this.started
    console.log(`  interrupted in: ${this.running?.fullTitle() ?? 'nothing'}`)
    console.log(`  tests not finished: ${total - this.finished} of ${total}`)
    killDescendants()
    process.exit(130)
  }

  /** The process ends by itself unless something keeps it alive; this timer does not. */
  private awaitEnd(): void {
    const failures = this.failures.length
    const ms = Number(lingerMsOfTest ?? (failures === 0 ? lingerMs.passed : lingerMs.failed))
    const end = (): void => {
      console.log(`  still alive ${ms / 1000} s after the summary:`)
      for (const line of this.handles.alive()) console.log(`    ${line}`)
      killDescendants()
      // Mocha sets the number of failures at the exit as well, hence before this.
      process.once('exit', () => (process.exitCode = Math.min(Math.max(failures, 1), 255)))
      process.exit()
    }
    setTimeout(end, ms).unref()
  }
}
