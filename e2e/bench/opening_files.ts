/**
 * The files of the opening problem: a LoRA of the base in f16, what `compress` makes of it, and a registry of one entry for
 * each expert that `auto` may find.
 *
 * @module
 */
import { createHash } from 'node:crypto'
import { compressAdapter } from '../../src/compress/index.ts'
import { readHead, type TritHead, tilingOf } from '../../src/format/index.ts'
import { centroidsOf } from '../../src/route/centroids.ts'
import { writeIndex } from '../../src/route/index_file.ts'
import { memorySource } from '../../src/source/memory.ts'
import { heavyTailed, memoryFolder, safetensors, type Values } from '../../tests/compress/checkpoints.ts'
import type { OpeningFiles } from './protocol.ts'

/** Size of the adapter's factors: random ones, for neither bytes nor times depend on them. */
const FACTOR_SIZE = 0.02

/**
 * Adds the files to those that are served.
 * @param prompt - the request that both registries have as a sample
 * @param tuned - a fine-tuning of the base, as an expert
 */
export async function openingFiles(
  files: Map<string, Uint8Array>,
  { prompt, rank, tuned }: { prompt: string; rank: number; tuned: { bytes: Uint8Array; head: TritHead } },
): Promise<OpeningFiles> {
  const adapter = memoryFolder({
    'adapter_config.json': { peft_type: 'LORA', r: rank, lora_alpha: 2 * rank },
    'adapter_model.safetensors': safetensors(factorsFor(tuned.head, rank)),
  })
  const { file: dense } = await compressAdapter({ adapter, options: { dense: ['*'], denseDtype: 'f16' } })
  const { file: terms } = await compressAdapter({ adapter, options: { terms: 2 } })
  const { rootHash } = await readHead(memorySource(dense))
  files.set('/opening/f16.trit', dense)
  return {
    f16: { url: '/opening/f16.trit', bytes: dense.length, rootHash },
    adapter: addRegistry(files, 'adapter', prompt, terms, (await readHead(memorySource(terms))).rootHash),
    tuned: addRegistry(files, 'tuned', prompt, tuned.bytes, tuned.head.rootHash),
  }
}

/** Factors of rank r on every matrix of a fine-tuning that is neither an embedding nor the head. */
function factorsFor({ table }: TritHead, rank: number): Record<string, Values> {
  const random = (shape: readonly [number, number], seed: number): Values => ({
    shape,
    values: heavyTailed(shape[0] * shape[1], seed, FACTOR_SIZE),
    dtype: 'F16',
  })
  const matrices = table.tensors.filter(
    ({ shape, target }) => shape.length === 2 && !/embed|lm_head|wte|wpe/.test(target),
  )
  return Object.fromEntries(
    matrices.flatMap(({ shape, target }, i) => {
      const { rows, cols } = tilingOf(shape)
      const module = `base_model.model.${target.replace(/\.weight$/, '')}`
      return [
        [`${module}.lora_A.weight`, random([rank, cols], 2 * i + 1)],
        [`${module}.lora_B.weight`, random([rows, rank], 2 * i + 2)],
      ]
    }),
  )
}

/** An expert with its registry and index, in a folder of their own. */
function addRegistry(
  files: Map<string, Uint8Array>,
  id: string,
  prompt: string,
  expert: Uint8Array,
  rootHash: string,
): OpeningFiles['adapter'] {
  const index = writeIndex([{ id, label: id, centroids: centroidsOf([prompt]) }])
  const registry = Buffer.from(
    JSON.stringify({
      version: 1,
      index: {
        url: 'experts.idx',
        bytes: index.length,
        sha256: createHash('sha256').update(index).digest('hex'),
      },
      experts: [{ id, label: id, url: 'expert.trit', bytes: expert.length, rootHash }],
    }),
  )
  const folder = `/opening/${id}/`
  files.set(`${folder}expert.trit`, expert)
  files.set(`${folder}experts.idx`, index)
  files.set(`${folder}experts.json`, registry)
  return {
    registry: `${folder}experts.json`,
    bytes: expert.length,
    listBytes: registry.length + index.length,
  }
}
