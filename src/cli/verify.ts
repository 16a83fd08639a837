import { parseArgs } from 'node:util'
import { openCheckpoint } from '../compress/checkpoint.ts'
import { verifyBase, verifyFile } from '../compress/verify.ts'
import { readHead } from '../format/head.ts'
import { UsageError } from './command.ts'
import { openFile, openPath } from './file_source.ts'
import { print, printJson } from './print.ts'
import { progressBar } from './progress.ts'

export const help = `
tritswap verify <file.trit> [--base <file|dir>] [--root-hash <hex>] [--json]

Checks every byte: the root hash if one is given (a registry names it), the hash of every chunk, and that every
tensor decodes within its bounds. With --base also that the file was made for that checkpoint: names and shapes,
the sketch (eight values per tensor) and the fingerprint of the whole checkpoint.

Exit code 0 when all is well, 1 with what is wrong on stderr.
`

const options = {
  base: { type: 'string' },
  'root-hash': { type: 'string' },
  json: { type: 'boolean' },
} as const

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args: argv, options, allowPositionals: true })
  if (positionals.length !== 1)
    throw new UsageError(`Cannot verify: expected one file, found ${positionals.length}`)
  const source = await openFile(positionals[0])
  const bar = progressBar('verifying')
  try {
    const head = await readHead(source, { rootHash: values['root-hash']?.toLowerCase() })
    await verifyFile(source, head, { onProgress: bar.update })
    const base = values.base === undefined ? undefined : await openCheckpoint(await openPath(values.base))
    const fit = base && (await verifyBase(head, source.name, base))
    bar.stop()
    if (values.json) {
      const { rootHash, chunks, table } = head
      printJson({ ok: true, file: source.name, rootHash, chunks, tensors: table.tensors.length, base: fit })
    } else {
      print(`${source.name} is good: ${head.chunks} chunks, ${head.table.tensors.length} tensors`)
      if (base !== undefined) print(baseLine(base.name, fit))
    }
    return 0
  } finally {
    bar.stop()
    await source.close()
  }
}

function baseLine(name: string, fit: Awaited<ReturnType<typeof verifyBase>> | undefined): string {
  if (fit?.fingerprint === 'same') return `Made for ${name}: the fingerprint is the same`
  if (fit?.sketchDistance !== undefined) return `Fits ${name} by its sketch; it carries no fingerprint`
  return `Names and shapes fit ${name}; it carries neither fingerprint nor sketch, so whether it was made for it is unknown`
}
