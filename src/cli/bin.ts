#!/usr/bin/env node
import { main } from './main.ts'

// A reader that stops early (`tritswap inspect … | head`) is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
})

process.exitCode = await main(process.argv.slice(2))
