import { TritswapError } from '../errors.ts'
import { encodeBlocks } from '../format/codecs/ternary_encode.ts'
import { TritWriter } from '../format/writer.ts'
import type { Checkpoint } from './checkpoint.ts'
import { writeDelta } from './dense_input.ts'
import { gatherEntries } from './entries.ts'
import type { RunJob } from './jobs.ts'
import { runJob } from './passes.ts'
import { placeholder } from './placeholders.ts'
import { describeBase, describeSources, withSketch } from './provenance.ts'
import {
  type CompressContext,
  type CompressReport,
  countBytes,
  type ExpertTexts,
  type TensorReport,
  textsOf,
} from './report.ts'
import { readBytes, readFloats, type StoredTensor } from './safetensors.ts'
import { sha256OfSource } from './source_hash.ts'

const SCALE = '.scale'

/**
 * Packs a ternary task vector that an author's own method chose, as it is: I8 tensors of −1, 0, 1 under the weights'
 * names, an F32 `<name>.scale` for each, and dense deltas (F16 or F32) for the rest.
 *
 * @throws {TritswapError} `input` for signs that are not signs, scales that are missing, tensors that the base lacks
 */
export async function packTernary(
  signs: Checkpoint,
  base: Checkpoint | undefined,
  texts: ExpertTexts & { baseName?: string },
  context: CompressContext,
): Promise<CompressReport> {
  const { signal, run = runJob, onProgress } = context
  const { spool, bytes } = countBytes(context.spool)
  const writer = new TritWriter(spool)
  const weights = [...signs.tensors.values()].filter(({ name }) => !isScale(name, signs))
  const empty = weights.find((tensor) => tensor.weights === 0)
  if (empty !== undefined) throw placeholder(empty)
  const total = weights.reduce((sum, tensor) => sum + tensor.weights, 0)
  const written: { target: string }[] = []
  const tensors: TensorReport[] = []
  const unmoved: string[] = []
  let done = 0
  for (const tensor of weights) {
    const { name, shape } = tensor
    if (base !== undefined) checkAgainst(base, tensor)
    const common = { name, shape, role: 'delta' as const, target: name }
    if (tensor.dtype === 'I8') {
      const scale = await scaleOf(tensor, signs)
      const { words, ...code } = await signsOf(tensor, run, signal)
      if (code.kept === 0) {
        unmoved.push(name)
      } else {
        await writer.add({ ...common, codec: 'ternary', ...code, scale }, words)
        written.push(common)
        tensors.push({ name, weights: tensor.weights, kept: code.kept, scale })
      }
    } else {
      written.push(await writeDelta(writer, tensor, run, signal))
      tensors.push({ name, weights: tensor.weights, kept: tensor.weights })
    }
    done += tensor.weights
    onProgress?.({ done, total })
  }
  if (tensors.length === 0)
    throw new TritswapError(
      'input',
      `Cannot pack ${signs.name}: it holds no sign tensor that is not all zero`,
    )
  const density = Number(signs.metadata.density)
  const baseRecord = await describeBase({ base: base?.tensors, baseName: texts.baseName }, run, signal)
  const head = await writer.finish({
    kind: 'expert',
    method: 'full',
    base: await withSketch(baseRecord, base?.tensors, written, signal),
    compression: density > 0 && density <= 1 ? { density } : {},
    sources: await describeSources(signs.files, context.sha256 ?? sha256OfSource),
    ...textsOf(texts),
  })
  return { head, bytes: head.length + bytes(), tensors, empty: [], unmoved, skipped: [], notes: [] }
}

/** The scale of a sign tensor; a weight whose name merely ends in `.scale` is a dense delta like others. */
function isScale(name: string, { tensors }: Checkpoint): boolean {
  return name.endsWith(SCALE) && tensors.get(name.slice(0, -SCALE.length))?.dtype === 'I8'
}

async function scaleOf({ name }: StoredTensor, { tensors, name: file }: Checkpoint): Promise<number> {
  const stored = tensors.get(name + SCALE)
  if (stored === undefined || stored.dtype !== 'F32' || stored.weights !== 1) {
    throw new TritswapError(
      'input',
      `Cannot pack ${name}: expected one F32 value ${name}${SCALE} in ${file}, found ${stored === undefined ? 'none' : `${stored.dtype} [${stored.shape}]`}`,
      {
        fields: { tensor: name },
      },
    )
  }
  const [scale] = await readFloats(stored)
  if (!Number.isFinite(scale)) {
    throw new TritswapError('input', `Cannot pack ${name}: its scale is ${scale}`, {
      fields: { tensor: name },
    })
  }
  return scale
}

/** Every sign that is not 0, as the entries of a task vector with all of its entries kept. */
async function signsOf(theta: StoredTensor, run: RunJob, signal?: AbortSignal) {
  const entries = await gatherEntries({ ...theta, theta, init: 0 }, { threshold: 0 }, run, signal)
  if (entries.sum !== entries.codes.length) throw await notASign(theta)
  return encodeBlocks(entries)
}

async function notASign(theta: StoredTensor): Promise<TritswapError> {
  const values = new Int8Array((await readBytes(theta)).buffer)
  const index = values.findIndex((value) => value < -1 || value > 1)
  return new TritswapError(
    'input',
    `Cannot pack ${theta.name}: expected −1, 0 or 1, found ${values[index]} at index ${index}`,
    {
      fields: { tensor: theta.name, index, value: values[index] },
    },
  )
}

function checkAgainst(base: Checkpoint, { name, shape }: StoredTensor): void {
  const found = base.tensors.get(name)
  if (found?.shape.join() === shape.join()) return
  throw new TritswapError(
    'input',
    `Cannot pack ${name} for ${base.name}: expected a tensor of shape [${shape}] in the base, found ${found === undefined ? 'none' : `[${found.shape}]`}; give the base that the signs were made for`,
    { fields: { tensor: name, shape } },
  )
}
