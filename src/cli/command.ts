/**
 * What a subcommand is. Each lives in a file of its own, loaded only when it is called.
 *
 * @module
 */
export interface Command {
  /** Printed by `tritswap <command> --help`. */
  help: string
  /**
   * @param argv - what follows the name of the command
   * @returns the exit code: 0 good, 1 bad input. Errors thrown become 1, a {@link UsageError} becomes 2.
   */
  run(argv: string[]): Promise<number>
}

/** The command line itself is wrong: exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}
