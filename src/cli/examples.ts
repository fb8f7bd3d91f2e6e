import type { Argv } from 'yargs'

/** Stands for an example in the help until it is printed: short, so that it is not broken. */
const mark = (at: number): string => `{example ${at}}`
const marks = /^( *)\{example (\d+)\} *$/gm

/**
 * Prints examples so that they can be copied: each command on one line, whatever the width of the
 * terminal, and a line below it that explains it. yargs prints both side by side, and breaks the
 * longer ones.
 */
export class Examples {
  private readonly all: (readonly [command: string, does: string])[] = []

  /** Keeps the examples of all commands; yargs gets a short mark for each. */
  collect(yargs: Argv): Argv {
    const own = yargs.example.bind(yargs) as (command: string, does: string) => Argv
    const collected = (command: string, does = ''): Argv =>
      own(mark(this.all.push([command, does]) - 1), '')
    return Object.assign(yargs, { example: collected })
  }

  /** The help with the examples in their places. */
  fill(help: string): string {
    return help.replace(marks, (_, indent: string, at: string) => {
      const [command, does] = this.all[Number(at)]!
      return `${indent}${command}${does === '' ? '' : `\n${indent}    ${does}`}`
    })
  }
}
