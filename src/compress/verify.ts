import { TritswapError } from '../errors.ts'
import { decodeEntries, decodeStepsOf, decodeTermsOf, isTernary, summaryOf } from '../format/codecs/index.ts'
import { contributionsOf, isWholeTensor, misfitOf } from '../format/contributions.ts'
import { chunkLength, type TritHead, verifyChunk } from '../format/head.ts'
import { SKETCH_VALUES } from '../format/limits.ts'
import { readSection } from '../format/section.ts'
import { compareBase, type SketchedTensor, sketchPositions } from '../format/sketch.ts'
import { type TritTensor, targetsOf } from '../format/table.ts'
import type { ByteSource } from '../source/source.ts'
import type { Checkpoint } from './checkpoint.ts'
import { decodePieces } from './decode.ts'
import { isFloat } from './dtypes.ts'
import type { RunJob } from './jobs.ts'
import { runJob } from './passes.ts'
import { describeBase } from './provenance.ts'
import { readFloats } from './safetensors.ts'

/**
 * Checks every byte of a file: the hash of each chunk, and that each section decodes to what the table says.
 * @throws {TritswapError} `integrity`, `format` or `limit`, naming what is wrong
 */
export async function verifyFile(
  source: ByteSource,
  head: TritHead,
  { signal, onProgress }: { signal?: AbortSignal; onProgress?: (done: number, total: number) => void } = {},
): Promise<void> {
  const end = head.headBytes + head.payloadBytes
  const size = await source.size({ signal })
  if (size !== undefined && size !== end) {
    throw new TritswapError(
      'format',
      `Cannot trust ${source.name}: expected ${end} bytes as its head says, found ${size}; fetch it again`,
      {
        fields: { name: source.name, expected: end, found: size },
      },
    )
  }
  for (let index = 0; index < head.chunks; index++) {
    const bytes = await source.read(head.headBytes + index * head.chunkBytes, chunkLength(head, index), {
      signal,
    })
    await verifyChunk(head, index, bytes, source.name)
    onProgress?.(index, head.chunks + head.table.tensors.length)
  }
  for (const [i, tensor] of head.table.tensors.entries()) {
    await checkSection(source, head, tensor, signal)
    onProgress?.(head.chunks + i, head.chunks + head.table.tensors.length)
  }
}

/** Decoding checks everything there is to check; entries and vectors are enough, so a tensor of them is not expanded. */
async function checkSection(
  source: ByteSource,
  head: TritHead,
  tensor: TritTensor,
  signal?: AbortSignal,
): Promise<void> {
  if (isTernary(tensor)) {
    decodeEntries(tensor, await readSection(source, head, tensor, { signal }))
    return
  }
  if (summaryOf(tensor).terms !== undefined) {
    decodeTermsOf(tensor, await readSection(source, head, tensor, { signal }))
    return
  }
  if (summaryOf(tensor).unit !== undefined) {
    decodeStepsOf(tensor, await readSection(source, head, tensor, { signal }))
    return
  }
  for await (const _ of decodePieces(source, head, tensor, { signal }));
}

/** How an expert and a checkpoint fit. */
export interface BaseCheck {
  /** `unknown` where the expert was made without its base at hand. */
  fingerprint: 'same' | 'unknown'
  /** Distance of the sketch, or undefined where there is none. */
  sketchDistance?: number
}

/**
 * Checks that an expert was made for this checkpoint: its tensors, its sketch, its fingerprint.
 * @throws {TritswapError} `base` saying which of them differs
 */
export async function verifyBase(
  { table }: TritHead,
  name: string,
  base: Checkpoint,
  { run = runJob, signal }: { run?: RunJob; signal?: AbortSignal } = {},
): Promise<BaseCheck> {
  const other = (why: string, fields: Record<string, unknown>) =>
    new TritswapError(
      'base',
      `Cannot use ${name} with ${base.name}: ${why}; give the base that it was made for`,
      { fields: { name, base: base.name, ...fields } },
    )
  for (const contribution of contributionsOf(table.tensors)) {
    const { target } = contribution
    const found = base.tensors.get(target)
    // A checkpoint that ties the weight of a module has it under another name only.
    if (found === undefined) {
      if (isWholeTensor(contribution)) continue
      throw other(`expected a tensor ${target}, found none`, { target })
    }
    const misfit = misfitOf(contribution, found.shape)
    if (misfit === undefined) continue
    const { name, shape } = misfit.tensor
    throw other(`its ${name} is [${shape}] and ${target} there is [${found.shape}]`, { target })
  }
  const check: BaseCheck = { fingerprint: 'unknown' }
  const { sketch, fingerprint, dtype: expectedDtype } = table.base
  if (sketch !== undefined) {
    const tensors: SketchedTensor[] = []
    for (const [t, target] of targetsOf(table.tensors).entries()) {
      const tensor = base.tensors.get(target)
      if (tensor === undefined || !isFloat(tensor.dtype))
        throw other(`expected weights under ${target}, found none`, { target })
      const found: number[] = []
      for (const position of sketchPositions(target, tensor.weights))
        found.push((await readFloats(tensor, position, 1, { signal }))[0])
      const expected = sketch.subarray(t * SKETCH_VALUES, (t + 1) * SKETCH_VALUES)
      const isVector = tensor.shape.length < 2
      tensors.push({ name: target, expected, found, dtype: 'f16', ...(!isVector && { expectedDtype }) })
    }
    const { verdict, distance, tensor } = compareBase(tensors)
    check.sketchDistance = distance
    if (verdict === 'other')
      throw other(
        `its sketch is ${distance.toPrecision(3)} away (${tensor}), so these are other weights of the same shape`,
        { distance, tensor },
      )
  }
  if (fingerprint !== undefined) {
    const found = (await describeBase({ base: base.tensors }, run, signal)).fingerprint
    if (found !== fingerprint) {
      const why =
        sketch === undefined ? '' : ' (the sketch fits, so it may be the same model in another dtype)'
      throw other(`expected fingerprint ${fingerprint}, found ${found}${why}`, {
        expected: fingerprint,
        found,
      })
    }
    check.fingerprint = 'same'
  }
  return check
}
