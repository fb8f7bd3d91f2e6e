import type { Argv } from 'yargs'

/** What stands in the help for an example until it is printed: short, so that it is not broken. */
const mark = (at: number): string => `{example ${at}}`
const marks = /^( *)\{example (\d+)\} *$/gm

/**
 * Examples that can be copied: each command is one line, whatever the width of the terminal, and
 * what it does stands below it. yargs would put both side by side and break the longer ones.
 */
export class Examples {
  private readonly all: (readonly [command: string, does: string])[] = []

  /** Takes over from yargs what is an example. */
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
