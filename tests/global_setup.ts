import { ensureCli } from '../scripts/setup.mjs'

/** Builds the command line, if its sources are newer. */
export default async function setup(): Promise<void> {
  if ((await ensureCli()) !== 0) throw new Error('Cannot build the command line: its output is above')
}
