import { Command, CommanderError } from '@commander-js/extra-typings'
import { isTritswapError } from '../errors.ts'
import { AnswerIsNo, type CommandFile, UsageError } from './command.ts'
import { note, oneLine, printText } from './print.ts'

/** The table of subcommands: one line each, in the order in which people meet them. */
const COMMANDS: Record<string, { summary: string; load: () => Promise<CommandFile> }> = {
  compress: { summary: 'make an expert file from a fine-tuning', load: () => import('./compress.ts') },
  registry: { summary: 'list the experts of a folder for a page', load: () => import('./registry.ts') },
  inspect: {
    summary: 'show what an expert file holds, and how small it is',
    load: () => import('./inspect.ts'),
  },
  verify: {
    summary: 'check every byte of a file, and that it fits a base',
    load: () => import('./verify.ts'),
  },
  prepare: { summary: 'make a model folder ready for experts', load: () => import('./prepare.ts') },
  sweep: { summary: 'try densities and alphas, and pick the best', load: () => import('./sweep.ts') },
  eval: { summary: 'measure experts on held-out texts', load: () => import('./eval.ts') },
  check: {
    summary: 'compare a model and experts on it with the outputs that torch gives',
    load: () => import('./check.ts'),
  },
  decode: { summary: 'write an expert as safetensors, or for peft', load: () => import('./decode.ts') },
  route: { summary: 'say which expert a request is for', load: () => import('./route.ts') },
  merge: { summary: 'make one expert out of several', load: () => import('./merge.ts') },
  compose: {
    summary: 'find weights for several experts by a few examples',
    load: () => import('./compose.ts'),
  },
  compare: { summary: 'show how alike experts are', load: () => import('./compare.ts') },
  assets: { summary: 'copy what the library fetches at run time', load: () => import('./assets.ts') },
}

const COMPLETION = 'complete'

const AFTER_OVERVIEW = `
Wherever a file or a folder is read, hf:owner/repo[@revision][/path] names one
on the Hugging Face Hub. It is fetched once, into the cache that Python's tools
share (HF_HOME), from HF_ENDPOINT, with the token in HF_TOKEN if there is one.

A LoRA becomes a hosted expert in two commands:
  $ tritswap compress --adapter hf:you/lora --base hf:owner/model --out experts/
  $ tritswap registry build experts

Run tritswap <command> --help for what a command takes, with examples.
Completion: tritswap complete bash, zsh, fish or powershell prints a script for
that shell to source.`

/**
 * The `tritswap` program.
 * @param argv - arguments without the node binary and the script
 * @returns the exit code: 0 good, 1 bad input, 2 wrong usage
 */
export async function main(argv: readonly string[]): Promise<number> {
  try {
    const program = await programFor(argv)
    await program.parseAsync([...argv], { from: 'user' })
    return 0
  } catch (error) {
    return exitCodeOf(error, argv)
  }
}

async function programFor(argv: readonly string[]): Promise<Command> {
  const isCompletion = argv[0] === COMPLETION
  const program = new Command('tritswap')
    .description('Ternary experts for models in the browser')
    .version(__TRITSWAP_VERSION__, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this')
    .helpCommand('help [command]', 'print what a command takes')
    .usage('<command> [options]')
    .addHelpText('after', AFTER_OVERVIEW)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => printText(text.replace(/\n$/, '')),
      writeErr: (text) => note(...withoutForgedLines(text, argv).replace(/\n$/, '').split('\n')),
    })
  for (const [name, { summary, load }] of Object.entries(COMMANDS)) {
    const isCalled = isCompletion || argv.slice(0, 2).includes(name)
    const command = isCalled ? (await load()).command() : new Command(name)
    program.addCommand(inherit(command.summary(summary), program, name) as Command)
  }
  if (isCompletion) {
    const { default: addCompletion } = await import('@bomb.sh/tab/commander')
    addCompletion(program as Parameters<typeof addCompletion>[0])
  }
  return program
}

/** The text with line breaks of its own only: commander quotes arguments as they are. */
function withoutForgedLines(text: string, argv: readonly string[]): string {
  const quoted = argv.flatMap((argument) => [argument, ...argument.split('=')])
  return quoted.reduce(
    (safe, part) => (part === oneLine(part) ? safe : safe.replaceAll(part, oneLine(part))),
    text,
  )
}

/** Gives a command and those below it the ways of the program. */
function inherit(command: ReturnType<CommandFile['command']>, program: Command, path: string) {
  command.copyInheritedSettings(program as never)
  command.helpOption('-h, --help', 'print this')
  command.showHelpAfterError(`Run tritswap ${path} --help to see what it takes`)
  for (const below of command.commands) inherit(below, program, `${path} ${below.name()}`)
  return command
}

function exitCodeOf(error: unknown, [name]: readonly string[]): number {
  if (error instanceof AnswerIsNo) return 1
  // Commander has printed these. Without a command it prints the help as an error.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
  if (error instanceof UsageError) {
    note(error.message, `Run tritswap ${name} --help to see what it takes`)
    return 2
  }
  note(...messageOf(error))
  return 1
}

/** A line that says what is wrong, then its causes; of an unexpected error the whole stack. */
function messageOf(error: unknown): string[] {
  if (!(error instanceof Error)) return [String(error)]
  if (!isTritswapError(error) && !('syscall' in error)) return (error.stack ?? error.message).split('\n')
  const lines = [error.message]
  for (let cause = error.cause; cause instanceof Error; cause = cause.cause)
    lines.push(`  because: ${cause.message}`)
  return lines
}
