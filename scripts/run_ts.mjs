/** `node scripts/run_ts.mjs file.ts …`: runs a TypeScript file of this repository in Node, with Vite's `?raw` and globs. */
import { resolve } from 'node:path'
import { runnerImport } from 'vite'

const [file] = process.argv.splice(2, 1)
await runnerImport(resolve(file), { configFile: false, logLevel: 'error' })
