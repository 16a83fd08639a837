import { ensureCli } from './setup.mjs'

/** Before the tests of Vitest in Node and of Playwright: builds the command line if its sources are newer. */
export default async function setup() {
  if ((await ensureCli()) !== 0) throw new Error('Cannot build the command line: its output is above')
}
