import { openCheckpoint } from '../compress/checkpoint.ts'
import { verifyBase, verifyFile } from '../compress/verify.ts'
import { readHead } from '../format/head.ts'
import { jsonOption, newCommand } from './command.ts'
import { openFile, openPath } from './file_source.ts'
import { print, printJson } from './print.ts'
import { progressBar } from './progress.ts'

const DESCRIPTION = `
Checks every byte: the root hash if one is given (a registry names it), the hash of every chunk, and that every tensor
decodes within its bounds. With --base also that the file was made for that checkpoint: names and shapes, the sketch
(eight values per tensor) and the fingerprint of the whole checkpoint.

Exit code 0 when all is well, 1 with what is wrong on stderr.
`

const EXAMPLES = ['tritswap verify poet.trit', 'tritswap verify poet.trit --base base']

export function command() {
  return newCommand('verify', DESCRIPTION, EXAMPLES)
    .argument('<file.trit>')
    .option('--base <path>', 'the checkpoint that it should be for: safetensors, or a folder of them')
    .option('--root-hash <hex>', 'that it should have')
    .addOption(jsonOption('what was found'))
    .action(verify)
}

async function verify(
  file: string,
  values: { base?: string; rootHash?: string; json?: true },
): Promise<void> {
  const source = await openFile(file)
  const bar = progressBar('verifying')
  try {
    const head = await readHead(source, { rootHash: values.rootHash?.toLowerCase() })
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
