/**
 * What a subcommand is made of. Each lives in a file of its own, loaded only when it is called.
 *
 * @module
 */
import { Command, type CommandUnknownOpts, Option } from '@commander-js/extra-typings'

/** A file of a subcommand. */
export interface CommandFile {
  /** A new one: commander keeps what it parsed in it. */
  command(): CommandUnknownOpts
}

/** The command line itself is wrong: exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** A command that did what it was asked, and whose answer is no: exit code 1, and nothing more to say. */
export class AnswerIsNo extends Error {
  override readonly name = 'AnswerIsNo'
}

/**
 * A subcommand with its description and examples.
 * @param examples - command lines for its help; `tests/cli/help.test.ts` runs each
 */
export function newCommand(name: string, description: string, examples: readonly string[]): Command {
  const lines = examples.map((example) => `  $ ${example}`)
  return new Command(name)
    .description(unwrapped(description.trim()))
    .addHelpText('after', `\nExamples:\n${lines.join('\n')}`)
}

/** For commands that print a table or figures. */
export function jsonOption(what: string) {
  return new Option('--json', `print ${what} as JSON`)
}

/** For commands that write. Scripts that rewrite their outputs set the variable once. */
export function forceOption() {
  return new Option('--force', 'write over what is there').env('TRITSWAP_FORCE')
}

/** An argument that may be given several times. */
export function several(value: string, before: string[] | undefined): string[] {
  return [...(before ?? []), value]
}

/** Lines of a paragraph in one, for commander breaks them to the width of the terminal; indented lines stay. */
function unwrapped(text: string): string {
  return text.replace(/(?<=\S)\n(?=\S)/g, ' ')
}
