import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { ADAPTER_CONFIG } from '../compress/adapter.ts'
import { checkExpansion, decodePieces, decodeSparse, decodeSteps } from '../compress/decode.ts'
import { peftFolder } from '../compress/peft_folder.ts'
import { safetensorsHead, type TensorToWrite } from '../compress/safetensors.ts'
import { TritswapError } from '../errors.ts'
import { isTernary, summaryOf } from '../format/codecs/index.ts'
import { readHead, type TritHead } from '../format/head.ts'
import type { TritTensor } from '../format/table.ts'
import { weightsOf } from '../format/tiling.ts'
import { forceOption, jsonOption, newCommand, UsageError } from './command.ts'
import { writeOnto } from './decode_onto.ts'
import { type FileSource, openFile } from './file_source.ts'
import { openCheckpointAt } from './inputs.ts'
import { byteSize, parsed } from './numbers.ts'
import { outputFile, refuseTaken, writeFileWhole } from './output.ts'
import { nameOf } from './place.ts'
import { printJson } from './print.ts'
import { progressBar } from './progress.ts'

const DESCRIPTION = `
Writes what an expert adds to theta_init (the base weights; 0 for LoRA factors, 1 for (IA)³) as F32 tensors under the
names and in the layout of the checkpoint or adapter that it was made from; with --base the whole fine-tuned checkpoint instead, which
is the only form of a lossless expert beside --sparse. In Python:

  delta = safetensors.torch.load_file('poet.safetensors')
  for name, tensor in delta.items(): model.state_dict()[name] += tensor
`

const EXAMPLES = [
  'tritswap decode poet.trit --out poet.safetensors',
  'tritswap decode poet.trit --sparse --out sparse.safetensors',
  'tritswap decode lora.trit --peft lora-again',
  'tritswap decode rl.trit --base base --out rl-again.safetensors',
]

export function command() {
  return newCommand('decode', DESCRIPTION, EXAMPLES)
    .argument('<file.trit>')
    .option('--out <file.safetensors>', 'where to write')
    .option(
      '--base <path>',
      'instead, the checkpoint that is this base with the expert on it, in the dtype of the base; of a lossless expert the fine-tuned one, bit for bit',
    )
    .option(
      '--peft <folder>',
      'instead, a folder that peft loads, for experts of low rank: terms as factors of rank p, B = d · x and A = y, ternary LoRA as its factors; all padded to one rank',
    )
    .option(
      '--sparse',
      'instead, per ternary tensor: <name>.indices (I32, flat row-major, ascending), <name>.signs (I8) and <name>.scale (F32); per lossless one <name>.indices and <name>.steps (I32, how many values of its type up); dense tensors as they are',
    )
    .option(
      '--max-bytes <size>',
      'write at most so many; by default what is in proportion to the file: a few hundred bytes can say of terabytes that they are zero',
      parsed(byteSize, '--max-bytes'),
    )
    .addOption(forceOption())
    .addOption(jsonOption('what was written'))
    .action(decode)
}

interface Values {
  out?: string
  base?: string
  peft?: string
  sparse?: true
  maxBytes?: number
  force?: true
  json?: true
}

async function decode(
  file: string,
  { base, peft, sparse, maxBytes, force, json, ...values }: Values,
): Promise<void> {
  if ((values.out === undefined) === (peft === undefined) || (peft !== undefined && sparse))
    throw new UsageError('Cannot decode: expected --out <file.safetensors> or --peft <folder>')
  if (base !== undefined && (peft !== undefined || sparse))
    throw new UsageError('Cannot decode: expected --base beside --out alone')
  const source = await openFile(file)
  const bar = progressBar('decoding')
  try {
    const head = await readHead(source)
    let out = peft
    if (peft !== undefined) {
      await writePeft(source, head, { folder: peft, force }, bar.update)
    } else {
      const onto = base === undefined ? undefined : await openCheckpointAt(base)
      if (!sparse && onto === undefined) {
        checkDecoded(head, source.name)
        checkSize(head, source.name, maxBytes)
      }
      out = await outputFile(values.out!, `${nameOf(file)}.safetensors`, force)
      await writeFileWhole(out, ({ write }) =>
        onto !== undefined
          ? writeOnto(source, head, onto, write, bar.update)
          : sparse
            ? writeSparse(source, head, write, bar.update)
            : writeDense(source, head, write, bar.update),
      )
    }
    if (json) {
      const tensors = head.table.tensors.map(({ name, shape, codec }) => ({ name, shape, codec }))
      printJson({ file: out, sparse: sparse === true, tensors })
    }
  } finally {
    bar.stop()
    await source.close()
  }
}

/** @throws {TritswapError} `unsupported` for steps, which are nothing to add to a weight */
function checkDecoded({ table }: TritHead, name: string): void {
  const tensor = table.tensors.find((own) => summaryOf(own).unit !== undefined)
  if (tensor === undefined) return
  throw new TritswapError(
    'unsupported',
    `Cannot decode ${name}: ${tensor.name} is lossless, as steps from the base's own weights; give the base with --base, or --sparse for the steps`,
    { fields: { name, tensor: tensor.name } },
  )
}

/** @throws {TritswapError} `limit` for values that take more bytes than allowed */
function checkSize(head: TritHead, name: string, allowed: number | undefined): void {
  const weights = head.table.tensors.reduce((sum, { shape }) => sum + weightsOf(shape), 0)
  const bytes = weights * Float32Array.BYTES_PER_ELEMENT
  if (allowed === undefined) {
    checkExpansion(head, weights, name, `give --sparse, or --max-bytes ${bytes} if you mean it`)
  } else if (bytes > allowed) {
    throw new TritswapError(
      'limit',
      `Cannot decode ${name}: its values take ${bytes} bytes, over the ${allowed} of --max-bytes; give --sparse, or a larger number`,
      { fields: { name, bytes, limit: allowed } },
    )
  }
}

type Write = (bytes: Uint8Array) => Promise<void>
type OnTensor = (done: number, total: number) => void

async function writePeft(
  source: FileSource,
  head: TritHead,
  { folder, force }: { folder: string; force?: true },
  onTensor: OnTensor,
): Promise<void> {
  const { config, tensors } = peftFolder(source, head)
  await mkdir(folder, { recursive: true })
  const [weightsFile, configFile] = ['adapter_model.safetensors', ADAPTER_CONFIG].map((name) =>
    join(folder, name),
  )
  await refuseTaken(weightsFile, force)
  await refuseTaken(configFile, force)
  await writeFileWhole(weightsFile, async ({ write }) => {
    await write(safetensorsHead(tensors, { format: 'pt' }))
    for (const [i, tensor] of tensors.entries()) {
      await write(bytesOf(await tensor.values()))
      onTensor(i + 1, tensors.length)
    }
  })
  const text = new TextEncoder().encode(`${JSON.stringify(config, null, 1)}\n`)
  await writeFileWhole(configFile, ({ write }) => write(text))
}

async function writeDense(
  source: FileSource,
  head: TritHead,
  write: Write,
  onTensor: OnTensor,
): Promise<void> {
  const { tensors, method } = head.table
  await write(safetensorsHead(tensors.map(dense), { format: 'pt', method }))
  for (const [i, tensor] of tensors.entries()) {
    for await (const piece of decodePieces(source, head, tensor)) await write(bytesOf(piece))
    onTensor(i + 1, tensors.length)
  }
}

/** Signs come last, in a second pass: bytes of odd length would leave what follows them unaligned. */
async function writeSparse(
  source: FileSource,
  head: TritHead,
  write: Write,
  onTensor: OnTensor,
): Promise<void> {
  const { tensors, method } = head.table
  const ternary = tensors.filter(isTernary)
  const wide = tensors.flatMap((tensor) =>
    isTernary(tensor)
      ? wideParts(tensor, '.scale')
      : isOfSteps(tensor)
        ? wideParts(tensor, '.steps')
        : [dense(tensor)],
  )
  const signs = ternary.map(
    (tensor): TensorToWrite => ({
      name: `${tensor.name}.signs`,
      dtype: 'I8',
      shape: [summaryOf(tensor).kept],
    }),
  )
  await write(safetensorsHead([...wide, ...signs], { format: 'pt', method }))
  let done = 0
  for (const tensor of tensors) {
    const { scale } = summaryOf(tensor)
    if (scale !== undefined) {
      for await (const { indices } of decodeSparse(source, head, tensor)) await write(bytesOf(indices))
      await write(bytesOf(Float32Array.of(scale)))
    } else if (isOfSteps(tensor)) {
      const { indices, steps } = await decodeSteps(source, head, tensor)
      await write(bytesOf(indices))
      await write(bytesOf(steps))
    } else {
      for await (const piece of decodePieces(source, head, tensor)) await write(bytesOf(piece))
    }
    onTensor(++done, tensors.length + ternary.length)
  }
  for (const tensor of ternary) {
    for await (const { signs } of decodeSparse(source, head, tensor)) await write(bytesOf(signs))
    onTensor(++done, tensors.length + ternary.length)
  }
}

function dense({ name, shape }: TritTensor): TensorToWrite {
  return { name, dtype: 'F32', shape }
}

function isOfSteps(tensor: TritTensor): boolean {
  return summaryOf(tensor).unit !== undefined
}

function wideParts(tensor: TritTensor, second: '.scale' | '.steps'): TensorToWrite[] {
  const { name } = tensor
  const shape = [summaryOf(tensor).kept]
  return [
    { name: `${name}.indices`, dtype: 'I32', shape },
    second === '.scale'
      ? { name: name + second, dtype: 'F32', shape: [] }
      : { name: name + second, dtype: 'I32', shape },
  ]
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength)
}
