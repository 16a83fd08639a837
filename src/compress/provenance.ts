/**
 * Where an expert comes from: fingerprint and sketch of its base, names and hashes of its sources.
 *
 * @module
 */
import { fingerprintOf } from '../format/fingerprint.ts'
import { toHalf } from '../format/float16.ts'
import { MAX_SOURCES, SKETCH_VALUES } from '../format/limits.ts'
import { NO_VALUE, sketchPositions } from '../format/sketch.ts'
import { type BaseRecord, type SourceRecord, targetsOf } from '../format/table.ts'
import { isHubName } from '../source/hf.ts'
import type { ByteSource } from '../source/source.ts'
import { isFloat } from './dtypes.ts'
import type { RunJob } from './jobs.ts'
import { pipelined } from './pipeline.ts'
import { readFloats, type StoredTensor } from './safetensors.ts'
import type { TaskVector } from './task_vector.ts'

/** Weights in a row that the blocks of most quantizers hold whole. */
const RUN = 32
/** Bytes of tensors that are hashed at once. */
const BYTES_AHEAD = 2 ** 25

/** The fingerprint of the base, where its checkpoint is at hand. */
export async function describeBase(
  task: Pick<TaskVector, 'base' | 'baseName' | 'converted'>,
  run: RunJob,
  signal?: AbortSignal,
): Promise<BaseRecord> {
  if (task.base === undefined || task.converted) return { name: task.baseName }
  const entries = []
  const work = pipelined(
    [...task.base.values()],
    ({ bytes }) => bytes,
    BYTES_AHEAD,
    (tensor) => run('hash', { tensor }, signal),
  )
  for await (const [{ name, dtype, shape }, hash] of work) entries.push({ name, dtype, shape, hash })
  return { name: task.baseName, fingerprint: await fingerprintOf(entries) }
}

/**
 * Adds the sketch: all targets of the table or none, so it is left out where the base lacks one.
 * @param values - of each target
 */
export async function withSketch(
  record: BaseRecord,
  base: ReadonlyMap<string, StoredTensor> | undefined,
  tensors: readonly { target: string }[],
  signal?: AbortSignal,
  values = SKETCH_VALUES,
): Promise<BaseRecord> {
  const targets = targetsOf(tensors).map((target) => base?.get(target))
  if (!targets.every((target) => target !== undefined && isFloat(target.dtype))) return record
  const sketch = new Uint16Array(targets.length * SKETCH_VALUES).fill(NO_VALUE)
  let [matrices, rounded] = [0, 0]
  for (const [t, target] of targets.entries()) {
    if (target === undefined) continue
    const positions = sketchPositions(target.name, target.weights)
    for (const [i, position] of positions.slice(0, values).entries()) {
      sketch[t * SKETCH_VALUES + i] = toHalf((await readFloats(target, position, 1, { signal }))[0])
    }
    if (target.shape.length !== 2 || target.shape[1] % RUN !== 0) continue
    matrices++
    if (await isRounded(target, positions, signal)) rounded++
  }
  return { ...record, sketch, dtype: matrices > 0 && rounded * 2 > matrices ? 'q4' : undefined }
}

/**
 * Whether a matrix is the dequantized copy of one of four bits: no run of weights has more than the values that one
 * block of it can have. Trained floats repeat hardly any.
 */
async function isRounded(
  tensor: StoredTensor,
  positions: readonly number[],
  signal?: AbortSignal,
): Promise<boolean> {
  for (const position of positions) {
    const run = await readFloats(tensor, position - (position % RUN), RUN, { signal })
    const own = run.filter((value) => value !== 0)
    // Mostly zeros, as in pruned matrices, say nothing.
    if (own.length < RUN / 2 || new Set(own).size > 16) return false
  }
  return true
}

/** Names and hashes of the files that something is made from, as many as a table keeps. */
export async function describeSources(
  sources: readonly ByteSource[],
  sha256: (source: ByteSource) => Promise<string | undefined>,
): Promise<SourceRecord[]> {
  const records: SourceRecord[] = []
  for (const source of sources.slice(0, MAX_SOURCES)) {
    const name = isHubName(source.name) ? source.name : source.name.split(/[\\/]/).at(-1)!
    records.push({ name, sha256: await sha256(source) })
  }
  return records
}
