/**
 * Outputs of a language model on rows of tokens that not all experts read from their start: each row is read in parts over a
 * cache, with those experts that act on a part.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { isCache, virtualTensorOf } from '../format/contributions.ts'
import type { TritTable } from '../format/index.ts'
import { actsOn, frontOf, virtualIds } from '../format/invocation.ts'
import type { Values } from '../reference/index.ts'
import type { InputValues } from './graph_inputs.ts'
import type { ModelOutput } from './model_outputs.ts'

type Given = ReadonlyMap<string, InputValues>

/**
 * @param experts - their tables; virtual tokens come before each row, and have outputs too where they are read
 * @param run - runs the model on inputs with the experts at some positions of that list
 * @throws {TritswapError} `input` without token ids, `unsupported` for a model without a cache
 */
export async function outputInParts(
  given: Given,
  experts: readonly Pick<TritTable, 'invocation' | 'tensors'>[],
  run: (given: Given, acting: readonly number[]) => Promise<ModelOutput>,
): Promise<ModelOutput> {
  const prompts = given.get('input_ids')
  if (prompts === undefined || prompts.dims.length !== 2) {
    throw new TritswapError(
      'input',
      'Cannot run an expert that acts on some tokens only: expected input_ids of [rows, tokens] among the inputs',
    )
  }
  const front = frontOf(experts)
  const inputs = front === 0 ? given : behind(front, given, prompts)
  const [rows] = prompts.dims
  const tokens = front + prompts.dims[1]
  const areKept = experts.some(({ tensors }) => {
    const virtual = virtualTensorOf(tensors)
    return virtual !== undefined && isCache(virtual)
  })
  const found: ModelOutput[] = []
  for (let row = 0; row < rows; row++) {
    const rowIds = Array.from(slice(prompts, row, 0, prompts.dims[1]).data, Number)
    const spans = experts.map((expert) => actsOn(rowIds, expert, front))
    const edges = spans.flatMap(({ from, to }) => [from, to])
    const stops = [...new Set([...edges.filter((edge) => edge > 0 && edge < tokens), tokens])]
    const parts: ModelOutput[] = []
    let from = 0
    for (const stop of stops.sort((a, b) => a - b)) {
      const acting = spans.flatMap((span, i) => (span.from <= from && from < span.to ? [i] : []))
      const part = await run(partOf(inputs, { row, from, stop }, parts.at(-1)?.caches), acting)
      if (stop < tokens && part.caches.size === 0) {
        throw new TritswapError(
          'unsupported',
          `Cannot run an activated LoRA, or virtual tokens, with ${part.file}: it puts out no keys and values, so a prompt cannot be read in parts; use a decoder, exported with a cache`,
          { fields: { file: part.file } },
        )
      }
      parts.push(part)
      from = stop
    }
    const read = areKept ? parts.slice(1) : parts
    found.push({ ...read[0], values: joined(read.map(({ values }) => values)) })
  }
  const [first] = found
  const values = found.map((output) => output.values)
  return { ...first, values: { ...joined(values), dims: [rows, ...first.values.dims.slice(1)] } }
}

/** Rows with virtual tokens before them. Positions are counted from these, whatever those of the rows were, as in peft. */
function behind(front: number, given: Given, ids: InputValues): Given {
  const [rows, tokens] = ids.dims
  const inputs = new Map(given)
  inputs.delete('position_ids')
  const mask = given.get('attention_mask')
  const added = (values: InputValues | undefined, before: readonly number[]): InputValues => ({
    dims: [rows, front + tokens],
    data: Int32Array.from(
      Array.from({ length: rows }, (_, row) => [
        ...before,
        ...(values === undefined
          ? new Array(tokens).fill(1)
          : Array.from(slice(values, row, 0, tokens).data, Number)),
      ]).flat(),
    ),
  })
  inputs.set('input_ids', added(ids, virtualIds(front)))
  inputs.set('attention_mask', added(mask, new Array(front).fill(1)))
  return inputs
}

/** The inputs of some tokens of a row, after what was read of it. */
function partOf(
  given: Given,
  { row, from, stop }: { row: number; from: number; stop: number },
  caches: Given = new Map(),
): Given {
  const inputs = new Map<string, InputValues>(caches)
  for (const [name, values] of given)
    if (name === 'input_ids' || name === 'position_ids') inputs.set(name, slice(values, row, from, stop))
  const mask = given.get('attention_mask')
  const ones: InputValues = { dims: [1, stop], data: new Int32Array(stop).fill(1) }
  inputs.set('attention_mask', mask === undefined ? ones : slice(mask, row, 0, stop))
  const positions = Int32Array.from({ length: stop - from }, (_, i) => from + i)
  if (!inputs.has('position_ids')) inputs.set('position_ids', { dims: [1, stop - from], data: positions })
  inputs.set('cache_position', { dims: [stop - from], data: positions })
  return inputs
}

/** Columns of a row of [rows, columns]. */
function slice({ dims, data }: InputValues, row: number, from: number, to: number): InputValues {
  const start = row * dims[1]
  return { dims: [1, to - from], data: data.slice(start + from, start + to) }
}

/** Joined along their positions. */
function joined(values: readonly Values[]): Values {
  const data = new Float32Array(values.reduce((sum, part) => sum + part.data.length, 0))
  let at = 0
  for (const part of values) {
    data.set(part.data, at)
    at += part.data.length
  }
  const [batch, , ...rest] = values[0].dims
  return { data, dims: [batch, values.reduce((sum, part) => sum + part.dims[1], 0), ...rest] }
}
