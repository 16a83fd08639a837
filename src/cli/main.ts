import { isTritswapError } from '../errors.ts'
import { type Command, UsageError } from './command.ts'
import { note, print, printText } from './print.ts'

/** The table of subcommands: one line each. */
const COMMANDS: Record<string, { summary: string; load: () => Promise<Command> }> = {
  compress: { summary: 'make an expert file from a fine-tuning', load: () => import('./compress.ts') },
  inspect: {
    summary: 'show what an expert file holds, and how small it is',
    load: () => import('./inspect.ts'),
  },
  eval: { summary: 'measure experts on held-out texts', load: () => import('./eval.ts') },
  decode: { summary: 'write an expert as dense or sparse safetensors', load: () => import('./decode.ts') },
  verify: {
    summary: 'check every byte of a file, and that it fits a base',
    load: () => import('./verify.ts'),
  },
  sweep: { summary: 'try densities and alphas, and pick the best', load: () => import('./sweep.ts') },
  prepare: { summary: 'make a model folder ready for experts', load: () => import('./prepare.ts') },
  check: {
    summary: 'compare a model and experts on it with the outputs that torch gives',
    load: () => import('./check.ts'),
  },
  registry: { summary: 'list the experts of a folder for a page', load: () => import('./registry.ts') },
  route: { summary: 'say which expert a request is for', load: () => import('./route.ts') },
  merge: { summary: 'make one expert out of several', load: () => import('./merge.ts') },
  compare: { summary: 'show how alike experts are', load: () => import('./compare.ts') },
}

/**
 * The `tritswap` program.
 * @param argv - arguments without the node binary and the script
 * @returns the exit code: 0 good, 1 bad input, 2 wrong usage
 */
export async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    const topic = name === 'help' ? rest[0] : undefined
    if (topic !== undefined && Object.hasOwn(COMMANDS, topic)) return help(topic)
    printText(overview())
    return name === undefined ? 2 : 0
  }
  if (name === '--version') {
    print(__TRITSWAP_VERSION__)
    return 0
  }
  if (!Object.hasOwn(COMMANDS, name)) {
    note(`Cannot run ${name}: expected one of ${Object.keys(COMMANDS).join(', ')}`)
    return 2
  }
  if (rest.includes('--help') || rest.includes('-h')) return help(name)
  try {
    const command = await COMMANDS[name].load()
    return await command.run(rest)
  } catch (error) {
    if (isUsageError(error)) {
      note(error.message, `Run tritswap ${name} --help to see what it takes`)
      return 2
    }
    note(...messageOf(error))
    return 1
  }
}

async function help(name: string): Promise<number> {
  const command = await COMMANDS[name].load()
  printText(command.help.trim())
  return 0
}

function overview(): string {
  const width = Math.max(0, ...Object.keys(COMMANDS).map((name) => name.length))
  const lines = Object.entries(COMMANDS).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`)
  return `tritswap: ternary experts for models in the browser\n\n${lines.join('\n')}\n\nRun tritswap <command> --help for what a command takes`
}

/** A {@link UsageError}, or what `parseArgs` throws. */
function isUsageError(error: unknown): error is Error {
  if (error instanceof UsageError) return true
  return error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS')
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
